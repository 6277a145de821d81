"""Losses as plain functions of scores or vectors. Means over the batch unless said otherwise."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from penchant.gemm import product_plain

__all__ = ["agree", "both_ways", "bpr", "crowd", "infonce", "kl", "tally", "unit"]

CACHED = 2**19  # products at a time: 2 MB
FLAT = 30.0  # natural powers, up and down, of which sums are far from overflow and from vanishing
STEEP = 60.0  # powers of 2 up to which sums of products and their inverses are far from overflow


def bpr(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Mean of -log sigmoid(positive - negative); shapes broadcast: (B,) and (B,), or (B, 1) and (B, n).

    Rendle et al. 2009, BPR-Opt (section 4.1).
    """
    return F.softplus(negative - positive).mean()


def infonce(
    x: torch.Tensor,
    y: torch.Tensor,
    others: torch.Tensor,
    temperature: float,
    of: int | None = None,
    weight: torch.Tensor | None = None,
    place: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean over b of -log( exp(cos(x_b, y_b) / t) / sum_k exp(cos(x_b, o_k) / t) ).

    x, y: (B, d), row by row a pair. others: (K, d), what y_b is told from; the literal form wants y_b among them.
    of: the K others are a uniform sample of so many rows. Then y_b itself is put beside them, and each stands for
    (of - 1) / K rows, so that the sum has the size it would have over all.
    place: (B,), with `of`: where y_b itself stands among the others, -1 if it is not there. It is not counted twice.
    weight: (B,), constants; the sum of weight_b times row b's loss in place of the mean. See `tally`.
    van den Oord, Li & Vinyals 2018, eq. 4; cosines and rows as in RLMRec's code.
    """
    told = others is y  # from each other
    x, y = unit(x), unit(y)
    others = y if told else unit(others)
    own = (x * y).sum(-1) / temperature  # (B,)
    weight = torch.full_like(own, 1 / max(len(own), 1)) if weight is None else weight.to(own.dtype)
    if of is None:
        return _Crowd.apply(x / temperature, others, torch.full_like(own, -math.inf), weight, None) - weight @ own
    return _estimated(x / temperature, own, others, of, weight, place) - weight @ own


def crowd(
    x: torch.Tensor,
    others: torch.Tensor,
    weight: torch.Tensor | None = None,
    contrast: int | None = None,
    own: torch.Tensor | None = None,
) -> torch.Tensor:
    """sum_b w_b log sum_k exp(x_b . o_k), or the mean over b. x: (B, d), others: (K, d), w: (B,), constants

    contrast: k runs over so many drawn rows, which stand for all in equal shares; None: over all. own: (B,), the row of
    `others` that belongs to x_b: it is counted once whatever was drawn, and the drawn others stand for the rest.
    """
    weight = torch.full_like(x[:, 0], 1 / max(len(x), 1)) if weight is None else weight
    nothing = torch.full_like(weight, -math.inf)
    if contrast is None or contrast >= len(others):
        return _Crowd.apply(x, others, nothing, weight, None)
    if own is None:
        few = F.embedding(torch.randperm(len(others), device=x.device)[:contrast], others)
        return _Crowd.apply(x, few, nothing, weight, None) + math.log(len(others) / contrast) * weight.sum()
    drawn, place = _draw(len(others), contrast, own)
    exact = (x * F.embedding(own, others)).sum(-1)
    return _estimated(x, exact, F.embedding(drawn, others), len(others), weight, place)


def _estimated(
    x: torch.Tensor, own: torch.Tensor, others: torch.Tensor, of: int, weight: torch.Tensor, place: torch.Tensor | None
) -> torch.Tensor:
    """sum_b w_b log( exp(own_b) + sum_k (of - 1) / K exp(x_b . o_k) ), k over the K others but place_b. Shapes as for `infonce`."""
    there = torch.zeros_like(own) if place is None else (place >= 0).to(own.dtype)
    each = math.log(max(of - 1, 1)) - (len(others) - there).clamp(min=1).log()  # (B,)
    return _Crowd.apply(x, others, own - each, weight, place) + weight @ each


def _draw(size: int, count: int, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """`count` of `size` rows, and where each of `rows` stands among them, -1 if it does not."""
    drawn = torch.randperm(size, device=rows.device)[:count]
    place = drawn.new_full((size,), -1)
    place[drawn] = torch.arange(count, device=drawn.device)
    return drawn, place[rows]


class _Crowd(torch.autograd.Function):
    """sum_b w_b log( exp(a_b) + sum_k exp(x_b . o_k) ). x: (B, d), others: (K, d), a, w: (B,). k leaves out place_b, if any.

    The table of products is made, used for value and gradients, and forgotten in blocks of rows that stay in the cache:
    nothing of size B x K is kept or read again, which is several times faster than autograd's five tables. Powers of 2
    take half the time of powers of e. The largest product of a row is taken off only where floats could overflow.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: torch.Tensor,
        others: torch.Tensor,
        a: torch.Tensor,
        weight: torch.Tensor,
        place: torch.Tensor | None,
    ) -> torch.Tensor:
        wanted, value = any(ctx.needs_input_grad), x.new_zeros(())  # type: ignore[attr-defined]
        to_x, to_others, to_a = torch.empty_like(x), torch.zeros_like(others), torch.empty_like(a)
        x2, a2 = x / math.log(2), a / math.log(2)
        steep = (
            bool(x2.norm(dim=1).amax() * others.norm(dim=1).amax() > STEEP or a2.amax() > STEEP) if len(x) else False
        )
        step = max(1, (CACHED if x.device.type == "cpu" else 128 * CACHED) // len(others))
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            e, own = product_plain(x2[rows], others.T), a2[rows]  # (b, K), (b,)
            top = torch.maximum(e.amax(dim=1), own) if steep else torch.zeros_like(own)
            e, own = (e.sub_(top[:, None]) if steep else e).exp2_(), (own - top).exp2()
            if place is not None:
                at = place[rows, None].clamp(min=0)
                e.scatter_(1, at, e.gather(1, at) * (place[rows, None] < 0))
            total = e.sum(dim=1) + own
            value += weight[rows] @ (total.log2() + top) * math.log(2)
            if wanted:
                share = weight[rows] / total
                torch.mul(product_plain(e, others), share[:, None], out=to_x[rows])
                to_others += product_plain(e.T, x[rows] * share[:, None])
                torch.mul(own, share, out=to_a[rows])
        if wanted:
            ctx.save_for_backward(to_x, to_others, to_a)
        return value

    @staticmethod
    @once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None, None]:
        to_x, to_others, to_a = ctx.saved_tensors  # type: ignore[attr-defined]
        return grads[0] * to_x, grads[0] * to_others, grads[0] * to_a, None, None


def agree(
    first: torch.Tensor, second: torch.Tensor, *rows: torch.Tensor, temperature: float, contrast: int | None = None
) -> torch.Tensor:
    """InfoNCE between two views (N, d) of the same N things: each row of the first must know itself in the second.

    rows: which ones, repeats and all; the mean over each tensor, the means added up. contrast: a row is told from so many
    drawn rows of the second view, estimating the sum over all of them; None: from all.
    """
    distinct, weight = tally(len(first), *rows)
    x, y = F.embedding(distinct, first), F.embedding(distinct, second)
    if contrast is None or contrast >= len(second):
        return infonce(x, y, second, temperature, weight=weight)
    drawn, place = _draw(len(second), contrast, distinct)
    return infonce(x, y, F.embedding(drawn, second), temperature, of=len(second), weight=weight, place=place)


def tally(size: int, *rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Distinct rows named in these tensors, and the sum over tensors of the share of its entries that each has. (n,), (n,)

    A mean of f(row) over each tensor, the means added up, is the weighted sum of f over distinct rows: no row is computed
    twice. size: the rows there are.
    """
    weight = torch.stack([torch.bincount(each.reshape(-1), minlength=size) / each.numel() for each in rows]).sum(0)
    found = weight.nonzero().reshape(-1)
    return found, weight[found]


def kl(target: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Mean over rows of KL(target || softmax(logits)). target: (B, K), rows sum to 1, no gradient. (B, K) each"""
    own = (target * (target + 1e-30).log()).sum()  # several times faster than xlogy
    return (own - (target * logits.log_softmax(dim=1)).sum()) / len(target)


class _BothWays(torch.autograd.Function):
    """(KL(Y || softmax rows of S) + KL(Y' || softmax columns of S)) / 2, means over rows; (B, B) tables, T and soft constant.

    Three tables are made, exp(S), exp(T) and exp(T) (T - S); rows and columns are sums over them, because
    log Y - log softmax(S) is T - S and a number a row, but on the diagonal. The gradient towards S is
    (softmax rows - Y + softmax columns - Y') / 2B.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, s: torch.Tensor, t: torch.Tensor, soft: torch.Tensor, bound: float
    ) -> torch.Tensor:
        if bound > FLAT:  # a row's sum could overflow, or vanish, in single precision
            s, t = s.double() - s.amax(), t.double() - t.amax()
        e_s, e_t = (s / math.log(2)).exp2_(), (t / math.log(2)).exp2_()  # several times faster than powers of e
        m = (t - s).mul_(e_t)
        z_s, z_t, apart = (torch.stack([table.sum(1), table.sum(0)]) for table in (e_s, e_t, m))  # (2, B)
        own, taught = s.diagonal(), t.diagonal()
        apart = apart / z_t + z_s.log() - z_t.log()  # sum of P (log P - log Q), P = softmax(T), Q = softmax(S)
        p, log_p, log_q = taught.exp() / z_t, taught - z_t.log(), own - z_s.log()
        y, weight = soft * p + 1 - soft, (soft + 1e-30).log()
        value = soft * (apart + weight - p * (weight + log_p - log_q)) + y * ((y + 1e-30).log() - log_q)
        z_s, z_t = 1 / (2 * len(s) * z_s), soft / (2 * len(s) * z_t)
        gradient = e_s.mul_(z_s[0][:, None] + z_s[1]).sub_(e_t.mul_(z_t[0][:, None] + z_t[1]))
        gradient.diagonal().sub_((1 - soft) / len(s))
        ctx.save_for_backward(gradient)
        return value.sum() / (2 * len(s))

    @staticmethod
    @once_differentiable
    def backward(
        ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor
    ) -> tuple[torch.Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return (grads[0] * gradient).to(grads[0].dtype), None, None, None


def both_ways(s: torch.Tensor, t: torch.Tensor, soft: torch.Tensor, bound: float) -> torch.Tensor:
    """Mean of KL(Y || softmax(S)) over rows and over columns, Y = soft softmax(T) + (1 - soft) I. s, t: (B, B).

    s: the student's similarities of pairs that belong together on the diagonal; t: the teacher's, without gradient.
    bound: no entry of s or t is larger in absolute value. Above FLAT the sums are made in double precision.
    Li et al., "Align before fuse" (ALBEF), NeurIPS 2021, eq. 6.
    """
    return _BothWays.apply(s, t, soft.to(s.dtype), bound).to(s.dtype)


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: torch.Tensor) -> torch.Tensor:
        length = torch.sqrt(1e-8 + x.square().sum(-1, keepdim=True))
        found = x / length
        ctx.save_for_backward(found, length)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: torch.Tensor) -> torch.Tensor:
        found, length = ctx.saved_tensors  # type: ignore[attr-defined]
        return torch.addcmul(grads[0], found, (grads[0] * found).sum(-1, keepdim=True), value=-1) / length


def unit(x: torch.Tensor) -> torch.Tensor:
    """Rows of length 1; 1e-8 under the root, as in RLMRec's code, so that a zero row has a gradient. (B, d)"""
    return _Unit.apply(x)
