"""Losses as plain functions of scores or vectors. Means over the batch unless said otherwise."""

from __future__ import annotations

import torch
import torch.nn.functional as F

__all__ = ["bpr"]


def bpr(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Mean of -log sigmoid(positive - negative); shapes broadcast: (B,) and (B,), or (B, 1) and (B, n).

    Rendle et al. 2009, BPR-Opt (section 4.1).
    """
    return F.softplus(negative - positive).mean()
