"""AutoCf: an autoencoder of the graph of choices, trained with parts of it hidden.

Xia, Huang, Huang, Lin, Yu & Kao, "Automated self-supervised learning for recommendation", WWW 2023, arXiv 2303.07797;
the formulas are those of RLMRec's code (Ren et al., WWW 2024), with whose table results are compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from penchant import losses
from penchant.batches import Triples
from penchant.data import Interactions
from penchant.errors import BadSetting
from penchant.hops import Edges, Hops
from penchant.model import Model
from penchant.nn import Embedded, EmbeddingNet, pick, table

__all__ = ["AutoCf"]

SHARE = 0.1  # of the steps in which the infomax term is added
MOST = 10.0  # q . k is kept between -MOST and MOST


@dataclass(frozen=True)
class AutoCf(Model):
    """L = L_recon + weight_contrast (L_users + L_items) + L_cross + L_infomax + l2 ||all parameters||^2.

    What to hide: s_v = sigmoid(cos(n_v, e_v)), n_v the sum of e over paths of one and two steps from node v; log s_v +
    Gumbel noise chooses `seeds` nodes. Hidden is each edge that touches a seed, with depth 2 each that touches a seed's
    neighbour too, and so on. L_infomax = -mean log s_v.

    Encoder: h^(l+1) = D^-1/2 A D^-1/2 h^(l) over the edges left, h^(0) = e. Decoder: attention with `heads` heads on h^(L), y_v
    = sum_w a_vw V h_w, a_vw = softmax over w of Q h_v . K h_w (kept within +-10), over the edges left, v itself, and as
    many random pairs, both ways, as there are edges, among seeds, what was reached from them, and n keep_nodes random
    nodes. The vectors are the sum of all h^(l) and y. At evaluation both parts see the whole graph and nothing else.

    Over a batch of pairs: L_recon = -mean e_u.e_i; L_users = mean over its users u of log sum_v exp(e_u.e_v), v all users;
    L_items likewise; L_cross = mean over pairs of log sum_j exp(e_u.e_j), j all items. Negatives are not used.

    contrast: v and j run over so many drawn rows, v over the row itself as well; None: over all, the literal form.
    **Departs from the paper**: what RLMRec's code does in every tenth step, to draw what is hidden and to add L_infomax, is
    done here in every step (the draw) and with probability 0.1 (L_infomax): no step leans on one before it.
    """

    dim: int = 64
    layers: int = 3
    heads: int = 4
    seeds: int = 100
    depth: int = 2
    keep_nodes: float = 0.2
    weight_contrast: float = 1.0
    contrast: int | None = None
    l2: float = 1e-7
    name: ClassVar[str] = "autocf"

    def build(self, train: Interactions) -> AutoCfNet:
        if min(self.heads, self.seeds, self.depth) < 1 or self.dim % self.heads:
            raise BadSetting(f"autocf: heads = {self.heads} must divide dim = {self.dim}; seeds, depth: at least 1")
        return AutoCfNet(self, train)


def powers(edges: Edges, q: torch.Tensor, k: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(q_r . k_c), the product kept within +-MOST; and the same, but 0 where it was not within. (E,), (E,)"""
    s = edges.dots(q, k)
    e = s.clamp(-MOST, MOST).exp_()
    return e, e.masked_fill(s.abs_() > MOST, 0)


class _Attend(torch.autograd.Function):
    """y_r = sum_c exp(q_r . k_c) v_c / (1e-8 + sum_c exp(q_r . k_c)) for each head. q, k, v, y: (heads, N, d / heads)

    Nothing of size E x d is made. A gradient towards k_c or v_c is a sum over the edges that come in; because all edges go
    both ways it is taken over those that go out, with q and k in each other's place.
    """

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, edges: Edges) -> torch.Tensor:
        y, z, kept = torch.empty_like(v), q.new_empty(q.shape[:2]), []
        for h in range(len(q)):
            e, inner = powers(edges, q[h], k[h])
            torch.add(torch.segment_reduce(e, "sum", offsets=edges.starts), 1e-8, out=z[h])
            torch.div(edges.bag(v[h], e), z[h, :, None], out=y[h])
            kept.append(inner)
        ctx.save_for_backward(q, k, v, y, z, *kept)
        ctx.edges = edges
        return y

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        (q, k, v, y, z, *kept), edges = ctx.saved_tensors, ctx.edges
        g = grads[0] / z[..., None]  # (heads, N, d / heads)
        own = (g * y).sum(-1)  # (heads, N)
        to_q, to_k, to_v = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for h in range(len(q)):
            s = edges.dots(g[h], v[h]).sub_(own[h].index_select(0, edges.rows)).mul_(kept[h])
            to_q[h] = edges.bag(k[h], s)
            e, inner = powers(edges, k[h], q[h])  # from here on an edge stands where the other direction is
            s = edges.dots(v[h], g[h]).sub_(own[h].index_select(0, edges.columns)).mul_(inner)
            to_k[h], to_v[h] = edges.bag(q[h], s), edges.bag(g[h], e)
        return to_q, to_k, to_v, None


class AutoCfNet(EmbeddingNet):
    def __init__(self, model: AutoCf, train: Interactions) -> None:
        super().__init__(train, model.l2)
        self.model, self.users = model, len(train.users)
        user, item = table(len(train.users), model.dim), table(len(train.items), model.dim)
        self.e0 = torch.nn.Parameter(torch.cat([user.data, item.data]))  # (U + I, d)
        self.q, self.k, self.v = (table(model.dim, model.dim) for _ in range(3))  # (d, d) each
        self.hops = Hops.bipartite(train)

    def ground(self) -> torch.Tensor:
        return self.e0

    def embed(self, ground: torch.Tensor | None = None) -> Embedded:
        h = e0 = self.e0 if ground is None else ground
        weights, edges = self.hops.weights, self.hops.edges
        parts: tuple[torch.Tensor, ...] = ()
        if self.training:
            added = bool(torch.rand(()) < SHARE)
            with torch.set_grad_enabled(added and torch.is_grad_enabled()):
                related = self.related(e0)
            parts = (-related.mean(),) if added else ()
            weights, edges = self.hide(related.detach())
        total = e0
        for _ in range(self.model.layers):
            h = self.hops.hop(h, weights)
            total = total + h
        q, k, v = ((h @ w).view(len(h), self.model.heads, -1).transpose(0, 1) for w in (self.q, self.k, self.v))
        y = _Attend.apply(q.contiguous(), k.contiguous(), v.contiguous(), edges)  # (heads, U + I, d / heads)
        total = total + y.transpose(0, 1).reshape(len(h), -1)
        return Embedded(total[: self.users], total[self.users :], parts=parts)

    def related(self, e: torch.Tensor) -> torch.Tensor:
        """log s_v. Surroundings as the code counts them: A (A e - e) - D e. (U + I, d) -> (U + I,)"""
        ones, degree = torch.ones_like(self.hops.weights), self.hops.starts.diff()[:, None]  # (nnz,), (U + I, 1)
        n = self.hops.hop(self.hops.hop(e, ones) - e, ones) - degree * e
        return F.logsigmoid((losses.unit(n) * losses.unit(e)).sum(-1))

    @torch.no_grad()
    def hide(self, related: torch.Tensor) -> tuple[torch.Tensor, Edges]:
        """What is left of the graph for a step: the encoder's weights (nnz,), and the decoder's edges."""
        n, rows, columns = len(related), self.hops.rows, self.hops.columns
        noise = -torch.empty_like(related).exponential_().log_()  # Gumbel
        near = torch.zeros_like(related, dtype=torch.bool)
        near[(related + noise).topk(min(self.model.seeds, n)).indices] = True
        for _ in range(self.model.depth - 1):
            near[columns[near[rows]]] = True
        left = ~(near[rows] | near[columns])  # (nnz,)
        scale = torch.segment_reduce(left.to(related), "sum", offsets=self.hops.starts).clamp_(min=1).rsqrt_()
        weights = left * scale[rows] * scale[columns]

        near[torch.randint(n, (int(n * self.model.keep_nodes),), device=near.device)] = True
        among = near.nonzero()[:, 0]
        a, b = among[torch.randint(len(among), (2, len(rows)), device=near.device)]
        own = torch.arange(n + 1, device=near.device)
        whole = rows.long() * n + columns
        keys = torch.cat([a * n + b, b * n + a, own[:-1] * (n + 1), whole[left]]).unique()  # sorted: by row, by column
        row, starts = keys // n, torch.searchsorted(keys, own * n)
        return weights, Edges(*(part.to(rows.dtype) for part in (row, keys - row * n, starts)))

    def objective(self, batch: Triples, vectors: Embedded) -> torch.Tensor:
        users, items, w, few = vectors.users, vectors.items, self.model.weight_contrast, self.model.contrast
        loss = -(pick(users, batch.user) * pick(items, batch.positive)).sum(-1).mean() + sum(vectors.parts)
        u, share = losses.tally(len(users), batch.user)  # distinct users, and their shares of the batch
        i, _ = losses.tally(len(items), batch.positive)
        of_users, of_items = pick(users, u), pick(items, i)
        loss = loss + losses.crowd(of_users, items, share, contrast=few)
        if w:
            loss = loss + w * losses.crowd(of_users, users, contrast=few, own=u)
            loss = loss + w * losses.crowd(of_items, items, contrast=few, own=i)
        return loss
