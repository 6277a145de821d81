"""Gemm: products and unit rows have the values and gradients of the plain forms."""

from __future__ import annotations

import pytest
import torch

from penchant import losses
from penchant.gemm import product


@pytest.mark.parametrize(("first", "second"), [(True, True), (True, False), (False, True)])
def test_a_product_has_the_gradient_of_the_plain_one(first: bool, second: bool) -> None:
    g = torch.Generator().manual_seed(0)
    a = torch.randn(5, 3, generator=g, dtype=torch.float64, requires_grad=first)
    b = torch.randn(4, 3, generator=g, dtype=torch.float64, requires_grad=second)
    assert torch.allclose(product(a, b), a @ b.T)
    assert torch.autograd.gradcheck(product, (a, b))


def test_unit_rows_have_the_gradient_of_the_plain_form() -> None:
    x = torch.randn(5, 3, dtype=torch.float64)
    x[2] = 0  # a row of zeros stays one, and has a gradient
    x.requires_grad_()
    assert torch.allclose(losses.unit(x), x / torch.sqrt(1e-8 + x.square().sum(1, keepdim=True)))
    assert torch.autograd.gradcheck(losses.unit, (x,), eps=1e-9, atol=1e-3)
    losses.unit(x)[2].sum().backward()
    assert x.grad is not None
    assert x.grad[2].abs().min() > 0
