"""Losses as plain functions of scores or vectors. Means over the batch unless said otherwise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

__all__ = ["bpr", "infonce", "kl", "unit"]


def bpr(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Mean of -log sigmoid(positive - negative); shapes broadcast: (B,) and (B,), or (B, 1) and (B, n).

    Rendle et al. 2009, BPR-Opt (section 4.1).
    """
    return F.softplus(negative - positive).mean()


def infonce(
    x: torch.Tensor, y: torch.Tensor, others: torch.Tensor, temperature: float, of: int | None = None
) -> torch.Tensor:
    """Mean over b of -log( exp(cos(x_b, y_b) / t) / sum_k exp(cos(x_b, o_k) / t) ).

    x, y: (B, d), row by row a pair. others: (K, d), what y_b is told from; the literal form wants y_b among them.
    of: the K others are a uniform sample of so many rows. Then y_b itself is put beside them, and each stands for
    (of - 1) / K rows, so that the sum has the size it would have over all.
    van den Oord, Li & Vinyals 2018, eq. 4; cosines and rows as in RLMRec's code.
    """
    x, y, others = unit(x), unit(y), unit(others)
    own = (x * y).sum(-1) / temperature  # (B,)
    logits = x @ others.T / temperature  # (B, K)
    if of is not None:
        logits = torch.cat([own[:, None], logits + math.log(max(of - 1, 1) / len(others))], dim=1)
    return (logits.logsumexp(dim=1) - own).mean()


def kl(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Mean over rows of KL(target || softmax(logits)). target: (B, K), rows sum to 1, no gradient. (B, K) each"""
    return F.kl_div(logits.log_softmax(dim=1), target, reduction="batchmean")


def unit(x: torch.Tensor) -> torch.Tensor:
    """Rows of length 1; 1e-8 under the root, as in RLMRec's code, so that a zero row has a gradient. (B, d)"""
    return x / torch.sqrt(1e-8 + x.square().sum(-1, keepdim=True))
