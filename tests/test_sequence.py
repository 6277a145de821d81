"""Models of sequences: against plain padded twins, against the readers without torch, blind to what comes later, and in worlds
where the order of choices is all there is to know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import nn
from worlds import keys

from penchant import metrics, saved
from penchant.batches import Pairs, Sequences, Windows
from penchant.catalog import Catalog, Pictures
from penchant.data import Ids, Interactions, Queries
from penchant.errors import BadSetting, BadTable
from penchant.features import Features
from penchant.models.bert4rec import Bert4rec
from penchant.models.ease import Ease
from penchant.models.gru4rec import Gru4rec
from penchant.models.hstu import Hstu
from penchant.models.item_knn import ItemKnn
from penchant.models.sasrec import Sasrec
from penchant.ranking import evaluate
from penchant.reasons import explain
from penchant.sequence import SequenceModel, SequenceNet, packed
from penchant.split import Split, leave_last_out
from penchant.texts import Provenance
from penchant.training import Curve, Training

LENGTH = 6
MODELS: dict[str, type[SequenceModel]] = {"sasrec": Sasrec, "gru4rec": Gru4rec, "bert4rec": Bert4rec, "hstu": Hstu}
every = pytest.mark.parametrize("name", MODELS)
causal = pytest.mark.parametrize("name", ["sasrec", "gru4rec", "hstu"])


# --- small worlds -----------------------------------------------------------------------------------------------------


def told(histories: list[list[int]], items: int, seed: int = 0) -> Interactions:
    """These histories, oldest first, as interactions with positions, in a shuffled order of rows."""
    user = np.repeat(np.arange(len(histories)), [len(h) for h in histories])
    item = np.array([i for h in histories for i in h], int)
    at = np.array([t for h in histories for t in range(len(h))], int)
    mixed = np.random.default_rng(seed).permutation(len(user))
    ids = Ids("user", keys("user", len(histories))), Ids("item", keys("item", items))
    return Interactions(*ids, user[mixed], item[mixed], position=at[mixed])


@cache
def drawn() -> Interactions:
    """Histories of 1 to 15 choices among 20 items; nobody chose the last three, nor did the last user choose."""
    rng = np.random.default_rng(0)
    return told([rng.permutation(17)[: 1 + n % 15].tolist() for n in range(19)] + [[]], 20)


@cache
def looks() -> dict[str, Features]:
    """Two modalities with gaps in different rows."""
    rng = np.random.default_rng(1)
    found = {}
    for name, dim in (("image", 5), ("text", 4)):
        values = rng.normal(0.5, 1, (20, dim)).astype(np.float32)
        found[name] = Features(drawn().items, values, rng.random(20) > 0.15, Provenance("drawn"))
    return found


def net_of(name: str, features: dict[str, Features] | None = None, **settings: object) -> SequenceNet:
    """A net with weights far from those it is built with, so that no part of it is nearly idle. In evaluation mode."""
    torch.manual_seed(1)
    model = MODELS[name](**{"dim": 8, "layers": 2, "heads": 2, "length": LENGTH, **settings})  # type: ignore[arg-type]
    net: SequenceNet = model.build(drawn(), **(features or {}))
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return net.eval()


def vectors(net: SequenceNet) -> torch.Tensor:
    return net.items().detach()


def states(net: SequenceNet, batch: Sequences) -> torch.Tensor:
    """h at every place of a batch, as `loss` makes it."""
    with torch.no_grad():
        x = 8**0.5 * net.items()[batch.item]
        if isinstance(net.model, Bert4rec):
            x = torch.where((batch.target >= 0)[:, None], net.mask, x)  # type: ignore[arg-type]
        return net.read(x, batch)


def rows_of(*rows: list[int], target: list[int] | None = None) -> Sequences:
    """A batch that reads these rows."""
    item = np.array([i for row in rows for i in row])
    there = np.full(len(item), -1) if target is None else np.array(target)
    return packed(item, np.array([len(row) for row in rows]), LENGTH, there, np.zeros(0, np.int64))


def whole_batch(net: SequenceNet) -> Sequences:
    return next(iter(net.batches(np.random.default_rng(3), 10**6)))


# --- plain twins: padded, one thing after the other -------------------------------------------------------------------


def linear(part: nn.Linear, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, part.weight, part.bias)


def padded(batch: Sequences) -> tuple[torch.Tensor, torch.Tensor]:
    """Padded on the left to LENGTH: items, 0 in padding, and which places are real. (B, L) each"""
    rows = int(batch.row.max()) + 1
    item, real = torch.zeros(rows, LENGTH, dtype=torch.long), torch.zeros(rows, LENGTH, dtype=torch.bool)
    for row in range(rows):
        mine = batch.item[batch.row == row]
        item[row, LENGTH - len(mine) :] = mine
        real[row, LENGTH - len(mine) :] = True
    return item, real


def plain_attention(net: SequenceNet, item: torch.Tensor, real: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """States of SASRec, or of BERT4Rec where `hidden` places are read as [MASK]. (B, L, d)"""
    both_ways = isinstance(net.model, Bert4rec)
    x = 8**0.5 * net.items()[item]
    if both_ways:
        x = torch.where(hidden[:, :, None], net.mask, x)  # type: ignore[arg-type]
    x = x + net.position  # type: ignore[operator]
    allowed = real[:, None, :].expand(-1, LENGTH, -1).clone()  # (B, from, to)
    if not both_ways:
        allowed &= torch.ones(LENGTH, LENGTH, dtype=torch.bool).tril()
    allowed |= torch.eye(LENGTH, dtype=torch.bool)  # padding reads itself, so that nothing is NaN; nobody reads it
    for block in net.blocks:  # type: ignore[union-attr]
        z = F.layer_norm(x, (8,), block.before.weight, block.before.bias)
        q, k, v = linear(block.attention.inward, z).split(8, dim=-1)
        made = []
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            s = q[..., part] @ k[..., part].transpose(1, 2) / 4**0.5
            made.append(F.softmax(s.masked_fill(~allowed, -torch.inf), dim=-1) @ v[..., part])
        x = x + linear(block.attention.outward, torch.cat(made, dim=-1))
        z = linear(block.first, F.layer_norm(x, (8,), block.after.weight, block.after.bias))
        x = x + linear(block.second, F.gelu(z) if both_ways else F.relu(z))
    return F.layer_norm(x, (8,), net.norm.weight, net.norm.bias)  # type: ignore[union-attr, arg-type]


def plain_gru(net: SequenceNet, item: torch.Tensor, real: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """One history at a time through torch's GRU. (B, L, d)"""
    gru = nn.GRU(8, 8, 2, batch_first=True)
    gru.load_state_dict(net.gru.state_dict())  # type: ignore[union-attr, arg-type]
    found = torch.zeros(*item.shape, 8)
    for row in range(len(item)):
        read, _ = gru(8**0.5 * net.items()[item[row][real[row]]][None])
        found[row, real[row]] = linear(net.outward, read[0])  # type: ignore[arg-type]
    return found


def plain_hstu(net: SequenceNet, item: torch.Tensor, real: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
    """One pair of places at a time. (B, L, d)"""
    x = 8**0.5 * net.items()[item] + net.position  # type: ignore[operator]
    for block in net.blocks:  # type: ignore[union-attr]
        z = F.silu(linear(block.inward, F.layer_norm(x, (8,), block.before.weight, block.before.bias)))
        u, q, k, v = z.split(8, dim=-1)
        sums = [[torch.zeros(8) for _ in range(LENGTH)] for _ in item]
        for row in range(len(item)):
            places = real[row].nonzero()[:, 0].tolist()
            for a in places:
                for b in places:
                    if b <= a:
                        parts = []
                        for head in range(2):
                            part = slice(4 * head, 4 * head + 4)
                            s = (q[row, a, part] * k[row, b, part]).sum() + block.distance[head, a - b]
                            parts.append(F.silu(s) / LENGTH * v[row, b, part])
                        sums[row][a] = sums[row][a] + torch.cat(parts)
        av = torch.stack([torch.stack(row) for row in sums])
        x = x + linear(block.outward, F.layer_norm(av, (8,), block.after.weight, block.after.bias) * u)
    return F.layer_norm(x, (8,), net.norm.weight, net.norm.bias)  # type: ignore[union-attr, arg-type]


PLAIN: dict[str, Callable[..., torch.Tensor]] = {
    "sasrec": plain_attention,
    "bert4rec": plain_attention,
    "gru4rec": plain_gru,
    "hstu": plain_hstu,
}


@pytest.mark.parametrize("features", [False, True], ids=["ids", "features"])
@every
def test_states_and_softmax_are_those_of_a_plain_padded_twin(name: str, features: bool) -> None:
    net = net_of(name, looks() if features else None)
    batch = whole_batch(net)
    item, real = padded(batch)
    hidden = torch.zeros_like(real)
    hidden[real] = batch.target >= 0
    plain = PLAIN[name](net, item, real, hidden)[real]
    assert torch.allclose(states(net, batch), plain, atol=2e-5)

    asked = batch.target >= 0
    popular = np.unique(drawn().item)  # nobody chose the others
    logits = (plain @ net.items().T)[asked][:, popular]
    right = torch.tensor([popular.tolist().index(i) for i in batch.target[asked].tolist()])
    loss = F.cross_entropy(logits, right)
    assert net.loss(batch).item() == pytest.approx(loss.item(), rel=1e-5)

    def gradients(loss: torch.Tensor) -> list[torch.Tensor]:
        own = [p for p in net.parameters() if p.requires_grad]
        return [torch.zeros_like(p) if g is None else g for p, g in zip(own, torch.autograd.grad(loss, own, allow_unused=True), strict=True)]  # fmt: skip

    def compared() -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        again = PLAIN[name](net, item, real, hidden)[real]
        return gradients(net.loss(batch)), gradients(F.cross_entropy((again @ net.items().T)[asked][:, popular], right))

    if name != "gru4rec":  # whose twin has weights of its own
        for mine, theirs in zip(*compared(), strict=True):
            assert torch.allclose(mine, theirs, atol=1e-5, rtol=1e-3)


@every
def test_bce_is_the_logistic_loss_of_each_choice_and_of_its_negative(name: str) -> None:
    net = net_of(name, loss="bce")
    batch = whole_batch(net)
    item, real = padded(batch)
    hidden = torch.zeros_like(real)
    hidden[real] = batch.target >= 0
    h, e = PLAIN[name](net, item, real, hidden)[real][batch.target >= 0], vectors(net)
    own, other = ((h * e[i]).sum(-1) for i in (batch.target[batch.target >= 0], batch.negative))
    ones = torch.ones(len(h))
    loss = F.binary_cross_entropy_with_logits(own, ones) + F.binary_cross_entropy_with_logits(other, 0 * ones)
    assert net.loss(batch).item() == pytest.approx(loss.item(), rel=1e-5)


def test_a_dropped_share_is_dropped_in_training_alone() -> None:
    for name in MODELS:
        net = net_of(name, dropout=0.5)
        batch = whole_batch(net)
        assert net.loss(batch) == net.loss(batch)
        net.train()
        assert net.loss(batch) != net.loss(batch)


# --- the reader without torch -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", [True, False], ids=["ids", "no ids"])
@pytest.mark.parametrize("features", [False, True], ids=["alone", "features"])
@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 2), (3, 4)])
@every
def test_the_reader_is_the_net(name: str, layers: int, heads: int, features: bool, ids: bool) -> None:
    if not ids and not features:
        return
    net = net_of(name, looks() if features else None, layers=layers, heads=heads, ids=ids)
    reader, e = net.finish(), vectors(net)
    rng = np.random.default_rng(2)
    histories = [rng.integers(0, 20, n).tolist() for n in [*range(1, LENGTH + 5), 3, 1]]
    found = reader.score(Queries.of(np.full(len(histories), -1), histories))
    for row, history in zip(found, histories, strict=True):
        if name == "bert4rec":
            read = [*history[-(LENGTH - 1) :], 0]
            batch = rows_of(read, target=[-1] * (len(read) - 1) + [0])
        else:
            batch = rows_of(history[-LENGTH:])
        # Weights of size .5 through three blocks: single precision leaves five digits of numbers of size 1 to 10.
        assert row == pytest.approx((states(net, batch)[-1] @ e.T).numpy(), abs=5e-5, rel=5e-5)


@every
def test_someone_without_a_history_is_told_nothing(name: str) -> None:
    reader = net_of(name).finish()
    found = reader.score(Queries.of([-1, -1], [[], [3, 4]]))
    assert not found[0].any()
    assert found[1].any()


@every
def test_only_the_newest_choices_are_read(name: str) -> None:
    reader = net_of(name).finish()
    long = np.random.default_rng(0).integers(0, 20, 10_000)
    read = LENGTH - (name == "bert4rec")
    whole, newest, more = (reader.score(Queries.of([-1], [long[-n:]])) for n in (len(long), read, read - 1))
    assert np.array_equal(whole, newest)
    assert not np.allclose(newest, more, atol=1e-3), "the oldest of these is read"


@every
def test_what_a_choice_carries_is_what_is_lost_without_it(name: str) -> None:
    reader = net_of(name).finish()
    history = np.random.default_rng(4).permutation(20)[: LENGTH + 3]
    carried = reader.carried(0, history, 7)
    for place in range(len(history)):
        with_, without = (reader.score(Queries.of([-1], [h]))[0, 7] for h in (history, np.delete(history, place)))
        assert carried[place] == pytest.approx(with_ - without, abs=1e-5)
    long = np.random.default_rng(5).integers(0, 20, 10_000)
    carried = reader.carried(0, long, 7)  # 10,000 histories of 10,000 choices would not fit anywhere
    assert np.count_nonzero(carried) <= LENGTH
    assert carried[-LENGTH + 1 :].all()


# --- what may be read -------------------------------------------------------------------------------------------------


@causal
def test_later_choices_change_no_byte_of_earlier_states(name: str) -> None:
    net = net_of(name)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 20, LENGTH).tolist() for _ in range(2))
    before = states(net, rows_of(first, second))
    for cut in range(1, LENGTH):
        noise = [*first[:cut], *rng.integers(0, 20, LENGTH - cut).tolist()]
        after = states(net, rows_of(noise, second))
        assert torch.equal(after[:cut], before[:cut])
        assert not torch.allclose(after[cut : cut + 1], before[cut : cut + 1], atol=1e-3) or noise[cut] == first[cut]
        assert torch.equal(after[LENGTH:], before[LENGTH:]), "another person's history is none of hers"


@causal
def test_a_state_is_asked_for_the_choice_after_it_and_no_other(name: str) -> None:
    """Replaced by noise: everything from a target on. The states that had been read before it, and what they are asked, stay."""
    net = net_of(name)
    batch = whole_batch(net)
    for row in range(int(batch.row.max()) + 1):
        mine = (batch.row == row).nonzero()[:, 0]
        assert torch.equal(batch.item[mine[1:]], batch.target[mine[:-1]])
        assert batch.at[mine].tolist() == list(range(len(mine)))
        assert batch.place[mine].tolist() == list(range(LENGTH - len(mine), LENGTH))


def test_bert4rec_does_not_know_what_is_hidden_from_it() -> None:
    net = net_of("bert4rec")
    batch = whole_batch(net)
    hidden = batch.target >= 0
    assert torch.equal(batch.item[hidden], batch.target[hidden])
    other = torch.where(hidden, (batch.item + 1 + torch.arange(len(batch))) % 20, batch.item)
    assert (other[hidden] != batch.item[hidden]).any()
    assert torch.equal(net.loss(replace(batch, item=other)), net.loss(batch))
    seen = (~hidden).nonzero()[0, 0]
    changed = batch.item.clone()
    changed[seen] = (changed[seen] + 1) % 20
    assert net.loss(replace(batch, item=changed)) != net.loss(batch), "what is not hidden is read, before and after"
    later = rows_of([3, 4, 5], target=[3, -1, -1]), rows_of([3, 4, 6], target=[3, -1, -1])
    h, other_h = (states(net, each)[0] for each in later)
    assert not torch.allclose(h, other_h, atol=1e-3)


@pytest.mark.parametrize(("share", "last"), [(0.0, 0.0), (0.4, 0.2), (1.0, 0.0), (0.5, 1.0)])
def test_bert4rec_hides_the_shares_it_is_told_and_at_least_one_of_each_window(share: float, last: float) -> None:
    net = net_of("bert4rec", hidden=share, last=last)
    counts = Counter[str]()
    for epoch in range(30):
        seen: list[int] = []
        for batch in net.batches(np.random.default_rng(epoch), 5):
            hidden = (batch.target >= 0).numpy()
            size = np.bincount(batch.row)
            per = np.bincount(batch.row, weights=hidden)
            assert per.min() >= 1
            newest = hidden[np.cumsum(size) - 1]
            counts["windows"] += len(size)
            counts["newest alone"] += int(((per == 1) & newest).sum())
            counts["hidden"] += int(hidden[size[batch.row] > 3].sum())
            counts["choices"] += int((size[batch.row] > 3).sum())
            seen += batch.item.tolist()
        assert Counter(seen) == Counter(drawn().item.tolist()), "each choice is read or hidden once"
    if last == 1:
        assert counts["newest alone"] == counts["windows"]
    elif share == 1:
        assert counts["hidden"] == counts["choices"]
    elif share > 0:
        rate = counts["hidden"] / counts["choices"]
        assert (1 - last) * share - 0.03 < rate < (1 - last) * share + last * 0.25 + 0.06
    else:
        assert counts["hidden"] < 0.26 * counts["choices"], "one of each window of four and more"


def test_mask_follows_the_history_of_someone_who_is_recommended_to() -> None:
    reader = net_of("bert4rec").finish()
    asked = Queries.of([-1], [[4, 9, 2]])
    other = replace(reader, net={**reader.net, "mask": reader.net["mask"][::-1]})
    assert not np.allclose(other.score(asked), reader.score(asked), atol=1e-2)


# --- the shared table, and attention that does not sum to 1 ------------------------------------------------------------


@every
def test_what_an_item_is_read_by_and_scored_by_is_one_parameter(name: str) -> None:
    net = net_of(name)
    assert [n for n, p in net.named_parameters() if p.shape[0] == 20] == ["ids"]
    asked = Queries.of([-1, -1], [[4, 9, 2], [4, 9, 3]])
    before = net.finish().score(asked)
    with torch.no_grad():
        net.ids[2] += torch.randn(8)  # type: ignore[index]
    after = net.finish().score(asked)
    others = np.arange(20) != 2
    assert np.array_equal(after[1, others], before[1, others])
    assert after[1, 2] != before[1, 2], "scored by it"
    assert (after[0, others] != before[0, others]).all(), "read by it"


def averages(name: str) -> list[torch.Tensor]:
    """Of one block whose queries and keys say nothing: what the last place has read of [x], [x, x] and [x, x, x]."""
    net = net_of(name, layers=1, heads=1)
    block = net.blocks[0]  # type: ignore[index]
    inward = block.inward if name == "hstu" else block.attention.inward
    first = 8 if name == "hstu" else 0
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        net.position.zero_()  # type: ignore[operator]
        inward.weight[first : first + 16] = 0
        inward.bias[first : first + 16] = 0
        if name == "hstu":
            block.distance.fill_(1)
    after = block.after if name == "hstu" else block.attention.outward
    after.register_forward_pre_hook(lambda _, given: seen.append(given[0][-1].clone()))
    for times in (1, 2, 3):
        states(net, rows_of([5] * times))
    return seen


def test_hstu_counts_how_often_something_was_chosen_and_a_softmax_does_not() -> None:
    once, twice, thrice = averages("hstu")
    assert once.norm() > 0.01
    assert torch.allclose(twice, 2 * once, rtol=1e-4)
    assert torch.allclose(thrice, 3 * once, rtol=1e-4)
    once, twice, thrice = averages("sasrec")
    assert once.norm() > 0.01
    assert torch.allclose(twice, once, rtol=1e-4)
    assert torch.allclose(thrice, once, rtol=1e-4)


def test_hstu_rows_of_attention_sum_to_what_the_formula_says() -> None:
    """With values of ones, what is read is the sum of a row of A: n SiLU(1) / L."""
    net = net_of("hstu", layers=1, heads=1)
    block = net.blocks[0]  # type: ignore[index]
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        block.inward.weight.zero_()
        block.inward.bias.zero_()
        block.inward.bias[24:] = 1.2784645  # SiLU of it is 1
        block.distance.fill_(1)
    block.after.register_forward_pre_hook(lambda _, given: seen.append(given[0].clone()))
    states(net, rows_of([1, 2, 3, 4]))
    expected = torch.arange(1, 5) * F.silu(torch.tensor(1.0)) / LENGTH
    assert torch.allclose(seen[0], expected[:, None].expand(4, 8), rtol=1e-4)


# --- windows ----------------------------------------------------------------------------------------------------------

sizes = st.lists(st.integers(0, 30), min_size=1, max_size=8)
lengths = st.integers(1, 9)


@cache
def apart(sizes: tuple[int, ...]) -> Interactions:
    """Histories of these sizes; user u chooses 40 u, 40 u + 1, ... in this order."""
    return told([[40 * u + t for t in range(n)] for u, n in enumerate(sizes)], 40 * len(sizes), len(sizes))


@given(sizes, lengths, st.integers(1, 5))
def test_each_choice_but_the_first_is_a_target_once_read_after_those_right_before_it(
    sizes: list[int], length: int, batch_size: int
) -> None:
    train = apart(tuple(sizes))
    if max(sizes) < 2:
        return
    net = Sasrec(dim=2, layers=0, length=length).build(train)
    targets: list[int] = []
    for batch in net.batches(np.random.default_rng(0), batch_size):
        assert int(batch.row.max()) < batch_size
        assert (batch.row.diff() >= 0).all()
        for row in range(int(batch.row.max()) + 1):
            mine = batch.row == row
            read, target = batch.item[mine].tolist(), batch.target[mine].tolist()
            assert 1 <= len(read) <= length
            assert read == list(range(read[0], read[0] + len(read))), "of one person, without a gap, oldest first"
            assert target == [i + 1 for i in read]
            targets += target
    expected = [40 * u + t for u, n in enumerate(sizes) for t in range(1, n)]
    assert sorted(targets) == expected


@given(sizes, lengths, st.integers(1, 5))
def test_without_a_shared_choice_windows_are_a_partition_cut_from_the_newest_end(
    sizes: list[int], length: int, batch_size: int
) -> None:
    train = apart(tuple(sizes))
    seen: list[int] = []
    for rows, size, at in Windows(train, length).epoch(np.random.default_rng(1), batch_size):
        assert len(size) <= batch_size
        assert at.tolist() == [t for n in size for t in range(n)]
        for items in np.split(train.item[rows], np.cumsum(size)[:-1]):
            assert items.tolist() == list(range(items[0], items[0] + len(items)))
            user = items[0] // 40
            left = sizes[user] - (items[-1] % 40 + 1)
            assert left % length == 0, "whole windows after it"
            assert len(items) == length or items[0] % 40 == 0, "the oldest one alone is shorter"
            seen += items.tolist()
    assert sorted(seen) == sorted(train.item.tolist())


def test_windows_are_mixed_anew_in_each_epoch_and_are_a_function_of_the_generator() -> None:
    net = net_of("sasrec")

    def epoch(seed: int) -> list[list[int]]:
        return [batch.item.tolist() for batch in net.batches(np.random.default_rng(seed), 4)]

    assert epoch(0) == epoch(0)
    assert epoch(0) != epoch(1)


# --- losses -----------------------------------------------------------------------------------------------------------


@every
def test_items_that_nobody_chose_are_told_from_nothing(name: str) -> None:
    net = net_of(name)
    batch = whole_batch(net)
    before = net.loss(batch)
    before.backward()
    assert net.ids is not None
    assert net.ids.grad is not None
    assert not net.ids.grad[17:].any()
    assert net.ids.grad[:17].any(dim=1).all()
    with torch.no_grad():
        net.ids[17:] = 30
    assert net.loss(batch).item() == before.item()


@pytest.mark.parametrize("count", [17, 20, 1000])
@every
def test_a_softmax_among_as_many_drawn_items_as_there_are_is_the_whole_one(name: str, count: int) -> None:
    whole, drawn_ = net_of(name), net_of(name, contrast=count)
    batch = whole_batch(whole)
    assert drawn_.loss(batch).item() == pytest.approx(whole.loss(batch).item(), rel=1e-6)


@pytest.mark.long
def test_a_softmax_among_few_drawn_items_estimates_the_whole_sum() -> None:
    """The sum of exponentials is right on average: own + (16 / 5) of five others."""
    torch.manual_seed(0)
    whole, few = net_of("sasrec"), net_of("sasrec", contrast=5)
    h, none = 0.3 * torch.randn(1, 8), torch.zeros(0, dtype=torch.long)
    e, target = vectors(whole), torch.tensor([4])
    own = (h @ e[4]).item()
    right = np.exp(whole.told(h, e, target, none).item() + own)
    sums = [np.exp(few.told(h, e, target, none).item() + own) for _ in range(3000)]
    assert np.mean(sums) == pytest.approx(right, rel=0.03)


@every
def test_negatives_are_what_their_user_chose_nowhere(name: str) -> None:
    """Three people with ten items each, of which they chose eight: a third of unchecked draws would be wrong."""
    chosen = [[10 * u + i for i in range(8)] for u in range(3)]
    net = MODELS[name](dim=4, length=3, loss="bce").build(told(chosen, 30))
    wrong = 0
    seen: set[int] = set()
    for epoch in range(20):
        for batch in net.batches(np.random.default_rng(epoch), 2):
            target = batch.target[batch.target >= 0]
            assert len(batch.negative) == len(target)
            for positive, negative in zip(target.tolist(), batch.negative.tolist(), strict=True):
                wrong += negative in chosen[positive // 10]
                seen.add(negative)
    assert not wrong
    assert seen == {item for own in chosen for item in own}  # of what nobody could choose nothing is learned


def test_softmax_draws_no_negatives() -> None:
    assert not len(whole_batch(net_of("sasrec")).negative)


@every
def test_who_has_chosen_everything_is_no_reason_to_wait_forever(name: str) -> None:
    """There is nothing that she did not choose; what she did choose is learned all the same."""
    train = told([[0, 1, 2, 3], [3, 2], [1, 0, 3]], 4)
    model = MODELS[name](dim=4, length=3, loss="bce", dropout=0.0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = model.build(train)
    batch = next(iter(net.batches(np.random.default_rng(0), 10)))
    asked = batch.target[batch.target >= 0]
    assert len(batch.negative) == len(asked)
    loss = net.loss(batch)
    assert torch.isfinite(loss)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)
    everything = told([[0, 1], [1, 0]], 2)
    rec = model.fit(everything, training=Training(epochs=2, device="cpu"))
    assert np.isfinite(rec.score(rec.known)).all()


def test_pairs_say_where_there_is_no_negative() -> None:
    pairs = Pairs(told([[0, 1, 2], [2]], 3))
    found = pairs.negatives(np.array([0, 1, 0, 1, 1]), np.random.default_rng(0))
    assert (found == -1).tolist() == [True, False, True, False, False]
    assert set(found[[1, 3, 4]]) <= {0, 1}


# --- planted worlds ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Chain:
    """A world in which most choices are what follows the one before on a hidden ring of items; all that is held out is.

    In between people jump, so that a history has several ends; which of them is the newest only the order tells.
    """

    split: Split
    after: np.ndarray


def chained(seed: int = 0, users: int = 240, items: int = 40, jump: float = 0.35) -> Chain:
    rng = np.random.default_rng(seed)
    ring = rng.permutation(items)
    after = np.empty(items, int)
    after[ring] = np.roll(ring, -1)
    histories: list[list[int]] = []
    while len(histories) < users:
        walk = [int(rng.integers(items))]
        for _ in range(int(rng.integers(6, 11))):
            follows = int(after[walk[-1]])
            free = np.setdiff1d(np.arange(items), walk)
            walk.append(int(rng.choice(free)) if rng.random() < jump or follows in walk else follows)
        walk += [int(after[walk[-1]]), int(after[after[walk[-1]]])]
        if len(set(walk)) == len(walk):
            histories.append(walk)
    return Chain(leave_last_out(told(histories, items)), after)


@cache
def chain() -> Chain:
    return chained()


@cache
def mixed() -> Split:
    """The same people's choices in train in any order."""
    train = chain().split.train
    position = np.random.default_rng(9).permutation(len(train))
    return replace(chain().split, train=replace(train, position=position))


FIT = Training(
    epochs=40,
    batch_size=32,
    learning_rate=5e-3,
    validate_every=5,
    patience=3,
    select="recall@1",
    device="cpu",
)


def small(name: str, **settings: object) -> SequenceModel:
    base: dict[str, object] = {"dim": 32, "layers": 1, "length": 12, "dropout": 0.1}
    if name == "bert4rec":
        base |= {"hidden": 0.2, "last": 0.5}
    return MODELS[name](**{**base, **settings})  # type: ignore[arg-type]


def recall(model: object, split: Split) -> float:
    training = replace(FIT, epochs=80) if isinstance(model, Bert4rec) else FIT
    rec = model.fit(split.train, split.valid, training)  # type: ignore[attr-defined]
    return evaluate(rec, split, at=(1,), lists=False).mean["recall@1"]


@pytest.mark.long
@every
def test_what_follows_the_last_choice_is_found_by_those_who_read_an_order_and_by_nobody_else(name: str) -> None:
    others = max(recall(model, chain().split) for model in (Ease(l2=5.0), ItemKnn()))
    reached, without = recall(small(name), chain().split), recall(small(name), mixed())
    assert others < 0.35
    assert reached > 0.8
    assert reached > 2 * others
    assert without < reached - 0.3, "histories in any order tell less"


# --- new items --------------------------------------------------------------------------------------------------------


@cache
def aisles() -> tuple[Split, Features, np.ndarray]:
    """40 items in 8 aisles that are visited one after the other; vectors tell the aisle. (split, vectors, aisles)"""
    rng = np.random.default_rng(0)
    aisle = np.arange(40) % 8
    histories = []
    for _ in range(200):
        start = int(rng.integers(8))
        steps = range(int(rng.integers(4, 9)))
        histories.append([int(rng.choice(np.flatnonzero(aisle == (start + t) % 8))) for t in steps])
    split = leave_last_out(told(histories, 40))
    values = rng.normal(size=(8, 10))[aisle] + 0.05 * rng.normal(size=(40, 10))
    return split, Features(split.items, values, np.ones(40, bool), Provenance("planted")), aisle


@cache
def by_looks(name: str):  # type: ignore[no-untyped-def]
    split, look, _ = aisles()
    training = replace(FIT, epochs=60 if name == "bert4rec" else 25, select="recall@5")
    return small(name, ids=False).fit(split.train, split.valid, training, look=look)


@pytest.mark.long
@every
def test_a_new_item_is_ranked_as_the_item_of_training_that_looks_the_same(name: str, tmp_path: Path) -> None:
    split, look, aisle = aisles()
    rec = by_looks(name)
    ids = Ids("item", ("twin-of-005", *keys("new", 8)))
    centres = [look.values[aisle == a].mean(axis=0) for a in range(8)]
    new = Features(ids, np.stack([look.values[5], *centres]), np.ones(9, bool), look.source)
    grown = rec.add_items(Catalog(ids, {"title": ids.keys}, Pictures.none(ids)), {"look": new})
    score = grown.score(grown.known)
    assert score[:, 40] == pytest.approx(score[:, 5], abs=1e-5)
    assert score[:, :40] == pytest.approx(rec.score(rec.known), abs=1e-5)

    # One that looks like an aisle is found by those who are about to come to it, of eight that each look like another.
    queries = split.queries("test", ("train", "valid"))
    score_then = grown.score(queries)
    next_aisle = (aisle[[history[-1] for history in queries.history]] + 1) % 8
    place = (score_then[:, None, :40] > score_then[:, 41:, None]).sum(axis=2)  # (queries, 8)
    assert (place.argmin(axis=1) == next_aisle).mean() > 0.8, "an eighth is chance"
    assert (place[np.arange(len(place)), next_aisle] <= 5).mean() > 0.8, "among the five of that aisle"

    # It can stand in a history, too, where it is read as its twin is.
    asked = grown.score(Queries.of([-1, -1], [[8, 1, 40], [8, 1, 5]]))
    assert asked[0] == pytest.approx(asked[1], abs=1e-5)
    grown.save(tmp_path / "model")
    assert np.array_equal(saved.read(tmp_path / "model").score(grown.known), score)


# --- a kill -----------------------------------------------------------------------------------------------------------

KEPT = Training(epochs=6, batch_size=8, learning_rate=0.01, validate_every=2, patience=9, device="cpu")


class Stop(Exception): ...


def stopping(epoch: int) -> Callable[[Curve], None]:
    def at(curve: Curve) -> None:
        if curve.epoch[-1] == epoch:
            raise Stop

    return at


@pytest.mark.long
@pytest.mark.parametrize("loss", ["softmax", "bce"])
@every
def test_a_fit_that_was_stopped_goes_on_to_the_same_numbers(name: str, loss: str, tmp_path: Path) -> None:
    """Order of batches, hidden choices, negatives, dropout and drawn items are all of the epoch alone."""
    split = leave_last_out(drawn())
    model = MODELS[name](dim=8, layers=1, length=5, dropout=0.3, loss=loss, contrast=6 if loss == "softmax" else None)

    def fit(folder: Path | None = None, progress: Callable[[Curve], None] | None = None):  # type: ignore[no-untyped-def]
        return model.fit(split.train, split.valid, KEPT, folder=folder, progress=progress)

    whole = fit()
    for epoch in (3, 4):
        with pytest.raises(Stop):
            fit(tmp_path / str(epoch), stopping(epoch))
        torch.rand(3)
        rec = fit(tmp_path / str(epoch))
        assert rec.curve.loss == whole.curve.loss
        assert rec.curve.value == whole.curve.value
        assert np.array_equal(rec.score(rec.known), whole.score(whole.known))
    assert len(set(whole.curve.loss)) == 6


# --- bad input --------------------------------------------------------------------------------------------------------

WRONG: dict[str, dict[str, object]] = {
    "heads": {"heads": 3, "dim": 64},
    "no heads": {"heads": 0},
    "loss": {"loss": "hinge"},
    "ids": {"ids": False},
    "dropout": {"dropout": 1.0},
    "length": {"length": 0},
}


@pytest.mark.parametrize("wrong", WRONG)
@every
def test_a_setting_that_cannot_be_ends_with_what_to_type(name: str, wrong: str) -> None:
    with pytest.raises(BadSetting, match=rf"{name} {next(iter(WRONG[wrong]))} = ") as caught:
        MODELS[name](**WRONG[wrong]).fit(drawn(), None, KEPT)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    last = str(caught.value).rsplit(":  ", 1)[-1]
    assert last.startswith(("heads = ", "dropout = ", "length = ", "text = ")) or "softmax, bce" in last


def test_gated_units_need_a_layer_and_attention_does_not() -> None:
    with pytest.raises(BadSetting, match=r"gru4rec layers = 0 .*:  layers = 1$"):
        Gru4rec(layers=0).fit(drawn(), None, KEPT)
    for name in ("sasrec", "bert4rec", "hstu"):
        net = net_of(name, layers=0)
        assert np.isfinite(net.finish().score(Queries.of([-1], [[3, 4]]))).all()


@every
def test_shortest_length_and_histories_of_one(name: str) -> None:
    """Somebody who chose once has nothing that follows; she is in nobody's way."""
    train = told([[3], [1, 2], [4], [5, 1, 0]], 7)
    rec = MODELS[name](dim=4, length=1).fit(train, None, replace(KEPT, epochs=2))
    found = rec.score(rec.known)
    assert found.shape == (4, 7)
    assert np.isfinite(found).all()
    assert [len(r.items) for r in rec.recommend(["user-000", "nobody"], 3, [["item-003"], ["item-004"]])] == [3, 3]


@every
def test_where_nobody_chose_twice_there_is_nothing_to_learn_an_order_from(name: str) -> None:
    with pytest.raises(BadTable, match=r'name = "'):
        MODELS[name](dim=4).fit(told([[3], [1], [4]], 7), None, KEPT)


@every
def test_one_history_of_ten_thousand(name: str) -> None:
    """It is learned whole, in windows; what is read of it later is its newest end."""
    items = np.random.default_rng(0).permutation(10_000).tolist()
    train = told([items, items[:3]], 10_000)
    model = MODELS[name](dim=4, layers=1, length=50, contrast=50)
    net = model.build(train)
    batches = list(net.batches(np.random.default_rng(0), 64))
    assert sum(int((b.target >= 0).sum()) for b in batches) >= (10_001 if name != "bert4rec" else 200)
    assert sum(len(b) for b in batches) >= 10_001
    rec = model.fit(train, None, replace(KEPT, epochs=1, batch_size=64))
    assert np.isfinite(rec.score(rec.known)).all()
    catalog = Catalog(rec.items, {"title": tuple(f"Thing {k}" for k in rec.items.keys)}, Pictures.none(rec.items))
    assert explain(rec, "user-000", train.items.keys[0], catalog) is not None


# --- what a table of these models must fulfil -------------------------------------------------------------------------


def identities(mean: dict[str, float], cuts: tuple[int, ...]) -> Iterator[tuple[float, float, float]]:
    """Lower bound, value, upper bound: with one target a user (docs: a target enters between two cuts at a rank between them)."""
    for k in cuts:
        hit, ndcg, mrr = (mean[f"{kind}@{k}"] for kind in ("hit", "ndcg", "mrr"))
        yield hit, mean[f"recall@{k}"], hit
        yield hit / np.log2(k + 1), ndcg, hit
        yield hit / k, mrr, hit
    for low, high in pairwise(cuts):
        entered = mean[f"hit@{high}"] - mean[f"hit@{low}"]
        gained = mean[f"ndcg@{high}"] - mean[f"ndcg@{low}"]
        yield entered / np.log2(high + 1), gained, entered / np.log2(low + 2)


CUTS = (1, 3, 5, 10)
NAMES = tuple(f"{kind}@{k}" for kind in ("hit", "recall", "ndcg", "mrr") for k in CUTS)


@hypothesis_settings(max_examples=60)
@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.integers(1, n), min_size=1, max_size=30)))
)
def test_interval_identities_hold_for_any_ranking_with_one_target_a_user(case: tuple[int, list[int]]) -> None:
    candidates, ranks = case
    found = metrics.per_user(NAMES, np.arange(len(ranks)), np.array(ranks), len(ranks), np.full(len(ranks), candidates))
    mean = {name: float(values.mean()) for name, values in found.items()}
    for low, value, high in identities(mean, CUTS):
        assert low - 1e-9 <= value <= high + 1e-9
    assert metrics.check_identities(mean) == ()


@every
def test_interval_identities_hold_for_what_a_model_reaches(name: str) -> None:
    split = leave_last_out(drawn())
    rec = MODELS[name](dim=8, layers=1, length=5).fit(split.train, split.valid, replace(KEPT, epochs=2))
    mean = evaluate(rec, split, at=CUTS).mean
    for low, value, high in identities(mean, CUTS):
        assert low - 1e-9 <= value <= high + 1e-9
    assert metrics.check_identities(mean) == ()
    broken = mean | {"ndcg@10": mean["hit@10"] + 0.05}
    assert metrics.check_identities(broken), "a table that cannot be is noticed"
