"""Beside: what texts say of a user and an item, added to the product of their trained vectors and itself never trained."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penchant.data import Interactions
from penchant.features import Features

__all__ = ["Beside"]

SHRINK = 3.0  # of the mean variance, added to every variance before it is divided by


class Beside(nn.Module):
    """The fixed score weight * v_u . w_i.

    w: texts about items, centred and whitened, (t - mean) (C + s I)^-1/2, C the covariance of texts about users and items, each
    kind centred by itself, s = SHRINK tr(C) / D; scaled so that the mean square of an item's length is 1. Without whitening
    a few topics would make up most of a product. v_u = (w_u + sum_j w_j) / sqrt(n), j over what she chose in train and w_u
    of the text about herself, n the number of those that are there: her own text is one more thing that she chose.
    What has no text is a row of zeros: nothing is added to its scores.

    In training an item of her own must not speak for itself, as it will not when it is recommended: see `scores`. With it the
    trained vectors learn to make up for what they lose later, and everything is worse than without texts.
    Memory: (U + I) D floats.
    """

    users: torch.Tensor
    items: torch.Tensor
    own: torch.Tensor
    shares: torch.Tensor

    def __init__(self, train: Interactions, about_users: Features, about_items: Features, weight: float) -> None:
        super().__init__()
        kinds = [_centred(each) for each in (about_users, about_items)]
        spread, axes = np.linalg.eigh(sum(x.T @ x for x in kinds) / max(sum(map(_count, kinds)), 1))
        spread = np.maximum(spread, 0)
        w_users, w_items = (x @ (axes / np.sqrt(spread + SHRINK * spread.mean() + 1e-12)) for x in kinds)
        length = np.square(w_items).sum(axis=1)  # (I,)
        scale = np.sqrt(weight / max(length.sum() / max(_count(w_items), 1), 1e-12))
        w_users, w_items = scale * w_users, scale * w_items
        chosen = train.matrix().astype(np.float64)
        count = chosen @ about_items.present + about_users.present  # (U,)
        shares = 1 / np.sqrt(np.maximum(count, 1))
        v = (w_users + chosen @ w_items) * shares[:, None]
        for name, value in (("users", v), ("items", w_items), ("own", scale**2 * length), ("shares", shares)):
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)

    def scores(self, user: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Of triples: items are (B, 1 + n), the chosen one first; what it gave to v_u itself is taken off. (B, 1 + n)"""
        found = torch.bmm(F.embedding(items, self.items), F.embedding(user, self.users)[:, :, None])[:, :, 0]
        found[:, 0] -= self.own[items[:, 0]] * self.shares[user]
        return found


def _centred(texts: Features) -> np.ndarray:
    """(n, D) float64, zeros where there is no text."""
    values = texts.values.astype(np.float64)
    mean = values[texts.present].mean(axis=0) if texts.present.any() else 0.0
    return np.where(texts.present[:, None], values - mean, 0.0)


def _count(rows: np.ndarray) -> int:
    return int(rows.any(axis=1).sum())
