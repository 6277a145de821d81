"""Beside: what texts say of an item to a user, added to the product of their trained vectors and itself never trained."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from penchant.data import Interactions
from penchant.features import Features, whitened

__all__ = ["Beside"]


class Beside(nn.Module):
    """The fixed score weight * v_u . w_i.

    w: texts about items, `whitened`. v_u = sum_j w_j / sqrt(n) over the n items j that u chose in train, which `scorers.turn` does for a stranger, too.
    An item without a text is a row of zeros: nothing is added to its scores. Texts about users have no part in it: they
    may be written from the very choice that is to be predicted.

    In training a chosen item must not speak for itself, as it will not when it is recommended: see `scores`. If it did, the
    trained vectors would learn to make up for what they lose later, and everything would be worse than without texts.
    Memory: (U + I) D floats, and as much again in the finished scorer.
    """

    users: torch.Tensor
    items: torch.Tensor
    own: torch.Tensor
    shares: torch.Tensor

    def __init__(self, train: Interactions, texts: Features, weight: float) -> None:
        super().__init__()
        w = np.float32(np.sqrt(weight)) * whitened(texts)  # (I, D)
        length = np.square(w).sum(axis=1)  # (I,)
        chosen = train.matrix()
        shares = 1 / np.sqrt(np.maximum(np.diff(chosen.indptr), 1))  # (U,)
        v = (chosen @ w) * shares[:, None]  # (U, D)
        for name, value in (("users", v), ("items", w), ("own", length), ("shares", shares)):
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)), persistent=False)

    def scores(self, user: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
        """Of triples: items are (B, 1 + n), the chosen one first; what it gave to v_u itself is taken off. (B, 1 + n)"""
        found = torch.bmm(F.embedding(items, self.items), F.embedding(user, self.users)[:, :, None])[:, :, 0]
        found[:, 0] -= self.own[items[:, 0]] * self.shares[user]
        return found
