"""Gemm: products of matrices by the BLAS that numpy brings."""

from __future__ import annotations

import numpy as np
import torch
from torch.autograd.function import once_differentiable

from penchant import machine

__all__ = ["product", "product_plain"]


def product_plain(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a b without a gradient. (n, k), (k, m) -> (n, m)

    numpy's OpenBLAS takes half the time of torch's MKL on AMD processors, one thread each; a few microseconds are lost where
    a product is tiny.
    """
    if a.device.type != "cpu" or a.dtype == torch.bfloat16:
        return a @ b
    with machine.product(a.numel() * b.shape[1]), np.errstate(all="ignore"):  # a run that diverges says so itself
        return torch.from_numpy(a.numpy() @ b.numpy())


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(a, b)
        return product_plain(a, b.T)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor
    ) -> tuple[torch.Tensor | None, torch.Tensor | None]:
        (a, b), (to_a, to_b) = ctx.saved_tensors, ctx.needs_input_grad  # type: ignore[attr-defined]
        return product_plain(grads[0], b) if to_a else None, product_plain(grads[0].T, a) if to_b else None


def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """a b' with gradients for both. (n, k), (m, k) -> (n, m)"""
    return _Product.apply(a, b)
