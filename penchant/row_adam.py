"""RowAdam: Adam that touches only the rows a sparse gradient names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from scipy import sparse
from torch import nn
from torch.optim.adam import adam

__all__ = ["RowAdam"]


class RowAdam(torch.optim.Optimizer):
    """Lazy Adam: Kingma & Ba 2015, algorithm 1, by rows.

    Departs from dense Adam: the moments of a row decay only in steps that touch it, and l2 is added to touched rows
    only. Bias correction uses the number of steps taken.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], lr: float, l2: float = 0.0) -> None:
        super().__init__(parameters, {"lr": lr, "l2": l2, "fused": True})  # fused: `step` lives where the rows do

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self._update(p, p.grad, group)

    def _update(self, p: nn.Parameter, sparse_grad: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p.data), torch.zeros_like(p.data)
        rows, grad = _sums(sparse_grad)
        tables = (p.data, state["exp_avg"], state["exp_avg_sq"])
        value, m, v = (_take(table, rows) for table in tables)
        adam(
            [value],
            [grad],
            [m],
            [v],
            [],
            [state["step"]],
            fused=True,
            amsgrad=False,
            maximize=False,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
            lr=group["lr"],
            weight_decay=2 * group["l2"],
        )
        for table, part in zip(tables, (value, m, v), strict=True):
            _put(table, rows, part)


# On a CPU numpy moves rows two to four times faster than torch does, and shares torch's memory.


def _plain(table: torch.Tensor) -> bool:
    return table.device.type == "cpu" and table.dim() == 2 and table.is_contiguous()


def _take(table: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    if not _plain(table):
        return table.index_select(0, rows)
    return torch.from_numpy(table.numpy().take(rows.numpy(), axis=0))


def _put(table: torch.Tensor, rows: torch.Tensor, values: torch.Tensor) -> None:
    if not _plain(table):
        table.index_copy_(0, rows, values)
    else:
        whole, part = (_opaque(x.numpy()) for x in (table, values))
        whole[rows.numpy()] = part


def _opaque(x: np.ndarray) -> np.ndarray:
    """Each row as one value of raw bytes, which numpy copies in one piece. (n, d) -> (n,)"""
    return x.view(f"V{x.shape[1] * x.itemsize}")[:, 0]


def _sums(grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct rows of a gradient and their sums. (n,), (n, d)"""
    if not grad.is_sparse:
        return torch.arange(len(grad), device=grad.device), grad.clone()
    index, values = grad._indices()[0], grad._values()
    if grad.device.type != "cpu":
        rows, where = torch.unique(index, return_inverse=True)
        return rows, torch.zeros(len(rows), values.shape[1], device=values.device).index_add_(0, where, values)
    # A scratch array as long as the table finds the distinct rows without a sort: of all entries of a row that write
    # their own number there one wins, and only the touched cells are ever read.
    asked = index.numpy()
    number, place = np.arange(len(asked)), np.empty(len(grad), np.int64)
    place[asked] = number
    rows = asked[place[asked] == number]
    place[rows] = number[: len(rows)]
    start = np.arange(len(asked) + 1)
    which = sparse.csc_matrix((np.ones(len(asked), np.float32), place[asked], start), (len(rows), len(asked)))
    return torch.from_numpy(rows), torch.from_numpy(which @ values.numpy())
