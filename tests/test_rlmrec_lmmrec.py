"""RLMRec and LMMRec: their losses against literal twins, the laws of the teacher, and what texts do to a planted world."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from worlds import checkerboard

from penchant import losses, train
from penchant import split as splits
from penchant.batches import Triples
from penchant.data import Ids
from penchant.errors import BadSetting, Leak, MissingInput
from penchant.features import Features
from penchant.graph import add_noise
from penchant.model import Model
from penchant.models.bpr import Bpr
from penchant.models.ease import Ease
from penchant.models.gccf import Gccf
from penchant.models.item_knn import ItemKnn
from penchant.models.lightgcn import LightGcn
from penchant.models.lmmrec import Lmmrec, LmmrecNet, correspondence
from penchant.models.rlmrec import Rlmrec, RlmrecNet
from penchant.models.sgl import Sgl
from penchant.models.simgcl import SimGcl
from penchant.models.vbpr import Vbpr
from penchant.motivation import Motives, Reading
from penchant.nn import EmbeddingNet
from penchant.plugin import taken
from penchant.ranking import Task, evaluate
from penchant.scorers import Factors, Motivated
from penchant.texts import Provenance
from penchant.training import Training

SHORT = Training(epochs=3, batch_size=64, learning_rate=0.01, validate_every=1, select="recall@3", device="cpu")
BACKBONES: dict[str, Model] = {
    "bpr": Bpr(dim=8),
    "lightgcn": LightGcn(dim=8, layers=2),
    "gccf": Gccf(dim=8, layers=2),
    "sgl": Sgl(dim=8, layers=2, weight_contrast=0.01),
}
LIGHT = BACKBONES["lightgcn"]


def texts(kind: str, dim: int = 6, gaps: tuple[int, ...] = (0,), seed: int = 0) -> Features:
    found = checkerboard().features(kind, dim, seed=seed)
    present = found.present.copy()
    present[list(gaps)] = False
    return replace(found, values=np.where(present[:, None], found.values, 0), present=present)


def built(model: Model, seed: int = 0, **texts_of: Features) -> Any:
    torch.manual_seed(seed)
    names = [need.name for need in model.needs()]
    given = {name: texts("user" if name.startswith("user") else "item") for name in names} | texts_of
    return model.build(checkerboard().train, **given)


def batch_of(net: EmbeddingNet, size: int = 40, seed: int = 0) -> Triples:
    return next(iter(net.batches(np.random.default_rng(seed), size)))


def literal(x: torch.Tensor, y: torch.Tensor, others: torch.Tensor, t: float) -> torch.Tensor:
    """InfoNCE, one row after another."""
    rows = []
    for a, b in zip(x, y, strict=True):
        exps = [math.e ** (F.cosine_similarity(a, o, dim=0) / t) for o in others]
        rows.append(-torch.log(math.e ** (F.cosine_similarity(a, b, dim=0) / t) / sum(exps)))
    return torch.stack(rows).mean()


# --- RLMRec -----------------------------------------------------------------------------------------------------------


def test_con_is_three_literal_terms() -> None:
    net: RlmrecNet = built(Rlmrec(LIGHT, weight_align=1.0, temperature=0.3))
    batch, vectors = batch_of(net), net.embed()
    z_user, z_item = net.g(net.users.values), net.g(net.items.values)
    user = [int(u) for u in batch.user if net.users.has[u]]
    terms = literal(vectors.users[user], z_user[user], z_user[net.users.has], 0.3)
    for column in (batch.positive, batch.negative):
        item = [int(i) for i in column if net.items.has[i]]
        terms = terms + literal(vectors.items[item], z_item[item], z_item[item], 0.3)
    assert net.con(batch, vectors).item() == pytest.approx(terms.item(), abs=1e-4)


def test_a_sampled_contrast_takes_some_triples_and_tells_them_from_each_other() -> None:
    net: RlmrecNet = built(Rlmrec(LIGHT, contrast=15))
    whole = RlmrecNet(Rlmrec(LIGHT), net.backbone, net.users, net.items)
    whole.g = net.g
    batch, vectors = batch_of(net, 60), net.embed()
    draws = set()
    for seed in range(20):
        torch.manual_seed(seed)
        some = taken(batch, 15)
        pairs = set(zip(batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True))
        chosen = list(zip(some.user.tolist(), some.positive.tolist(), some.negative.tolist(), strict=True))
        assert len(set(chosen)) == 15
        assert set(chosen) <= pairs, "a user stays with her items"
        torch.manual_seed(seed)
        draws.add(round(net.con(batch, vectors).item(), 6))
    assert len(draws) == 20
    assert max(draws) < whole.con(batch, vectors).item(), "fewer to be told from"
    assert taken(batch, 60) is batch


def test_gen_reads_the_texts_of_masked_rows_off_the_graph() -> None:
    net: RlmrecNet = built(Rlmrec(LIGHT, "gen", weight_align=1.0, masked=0.3, temperature=0.5))
    users, ground = len(net.users.has), net.ground()
    torch.manual_seed(3)
    vectors = net.embed()
    seeds = vectors.parts[-1]
    assert len(seeds) == len(set(seeds.tolist())) == int(0.3 * len(ground))
    masked = ground.detach().clone()
    masked[seeds] = net.mask.detach()
    plain = net.backbone.embed(masked)
    assert torch.allclose(vectors.users, plain.users)
    assert torch.allclose(vectors.items, plain.items)
    rows = [(vectors.users[s], net.users.values[s]) for s in seeds if s < users and net.users.has[s]]
    rows += [
        (vectors.items[s - users], net.items.values[s - users])
        for s in seeds
        if s >= users and net.items.has[s - users]
    ]
    e, s = (torch.stack(column) for column in zip(*rows, strict=True))
    assert net.gen(seeds, vectors).item() == pytest.approx(literal(net.g(e), s, s, 0.5).item(), abs=1e-4)
    net.objective(batch_of(net), vectors).backward()
    gradient = net.backbone.e0.grad
    assert not gradient[seeds].any(), "a masked row of E^(0) takes no part in the step"
    assert gradient.abs().sum() > 0
    assert net.mask.grad is not None
    assert net.mask.grad.abs().sum() > 0


def test_gen_masks_nothing_when_scores_are_made() -> None:
    net: RlmrecNet = built(Rlmrec(LIGHT, "gen", masked=0.3)).eval()
    assert torch.equal(net.embed().users, net.backbone.embed().users)
    few: RlmrecNet = built(Rlmrec(LIGHT, "gen", masked=1e-9))
    assert len(few.embed().parts[-1]) == 1, "at least one row"


# --- LMMRec: prototypes -----------------------------------------------------------------------------------------------


def test_a_motivation_is_a_mixture_of_prototypes() -> None:
    net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=5))
    side, e = net.student.users, 10 * net.embed().users
    a = (e @ side.p.T).softmax(dim=1)
    assert torch.allclose(a.sum(dim=1), torch.ones(len(a)))
    assert torch.allclose(side.mixed(e), a @ side.p, atol=1e-6)
    assert (side.mixed(e).amax(dim=0) <= side.p.amax(dim=0) + 1e-6).all()
    assert (side.mixed(e).amin(dim=0) >= side.p.amin(dim=0) - 1e-6).all()


@pytest.mark.parametrize("reading", ["prototype", "residual", "edge"])
def test_one_prototype_carries_nothing(reading: Any) -> None:
    """The same r for everybody teaches the backbone nothing: no gradient reaches E^(0) through r. The other readings let it
    through by design: "residual" has e itself, and over edges, whose weights are then alike, r is the neighbours' mean."""
    net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=1, reading=reading, weight_mcs=1.0, weight_itcm=0.0))
    e = net.embed()
    net.aligned(batch_of(net), e).backward()
    gradient = net.student.backbone.e0.grad
    if reading != "prototype":
        assert gradient.abs().max() > 1e-4
        return
    assert (net.student.users.mixed(e.users) - net.student.users.p[0]).abs().max() < 1e-6
    assert gradient is None or gradient.abs().max() < 1e-7


def test_residual_is_the_vector_with_its_motivations() -> None:
    """Coordination takes both, correspondence and the reasons the mixture alone."""
    net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=4, reading="residual")).eval()
    e = net.embed()
    users, items = net.student.motives(e, torch.arange(len(e.users)), torch.arange(len(e.items)))
    for side, vectors, found in ((net.student.users, e.users, users), (net.student.items, e.items, items)):
        mixture = side.shares(vectors) @ side.p
        assert torch.allclose(found.r, vectors + mixture, atol=1e-6)
        assert torch.allclose(found.corresponding.r, mixture, atol=1e-6)
        assert torch.equal(found.corresponding.z, found.z)
    shares, matches = e.motives
    r, p = net.student.items.mixed(e.items), net.student.users.p
    assert torch.allclose(shares, net.student.users.shares(e.users))
    assert torch.allclose(matches, F.cosine_similarity(r[:, None], p[None], dim=2), atol=1e-3)


def test_correspondence_is_about_mixtures_whatever_coordination_is_about() -> None:
    """The same parameters, read either way, have the same correspondence and another coordination."""
    found = {}
    readings: tuple[Reading, ...] = ("prototype", "residual")
    for reading in readings:
        for mcs, itcm in ((0.0, 1.0), (1.0, 0.0)):
            net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=5, reading=reading, weight_mcs=mcs, weight_itcm=itcm))
            torch.manual_seed(2)
            found[reading, itcm] = net.aligned(batch_of(net), net.embed()).item()
    assert found["prototype", 1.0] == pytest.approx(found["residual", 1.0], rel=1e-5)
    assert abs(found["prototype", 0.0] / found["residual", 0.0] - 1) > 0.01


def test_over_edges_is_a_weighted_mean_of_neighbours() -> None:
    net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=4, reading="edge", layers=2))
    e, train = net.embed(), checkerboard().train
    users, items = net.student.users, net.student.items
    count = len(train.users)
    a = np.zeros((count + len(train.items),) * 2, np.float32)
    a[train.user, count + train.item] = a[count + train.item, train.user] = 1
    adjacency, x, layers = torch.from_numpy(a), torch.cat([e.users, e.items]), []
    for _ in range(2):
        m = F.normalize(torch.cat([users.mixed(x[:count]), items.mixed(x[count:])]))
        w = (m @ m.T + 1) / 2 * adjacency
        x = w / w.sum(dim=1, keepdim=True).clamp_min(1e-8) @ x
        layers.append(x)
    r = torch.stack(layers).mean(dim=0)
    found = net.student.motives(e, torch.arange(count), torch.arange(len(train.items)))
    assert torch.allclose(found[0].r, r[:count], atol=1e-5)
    assert torch.allclose(found[1].r, r[count:], atol=1e-5)


# --- LMMRec: coordination ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reading", ["prototype", "residual"])
def test_coordination_is_three_literal_terms(reading: Any) -> None:
    net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=5, reading=reading, weight_mcs=1.0, weight_itcm=0.0, contrast=None))
    batch, e = batch_of(net), net.embed()
    sides = net.student.users, net.student.items
    z_user, z_item = (net.student.g(side.texts.values) for side in sides)
    r_user, r_item = sides[0].mixed(e.users), sides[1].mixed(e.items)
    if reading == "residual":
        r_user, r_item = e.users + r_user, e.items + r_item
    user = [int(u) for u in batch.user if net.users.has[u]]
    terms = literal(r_user[user], z_user[user], z_user[net.users.has], 0.2)
    for column in (batch.positive, batch.negative):
        item = [int(i) for i in column if net.items.has[i]]
        terms = terms + literal(r_item[item], z_item[item], z_item[item], 0.2)
    found = net.aligned(batch, e)
    assert found.item() == pytest.approx(terms.item(), abs=1e-4)


def test_under_noise_the_loss_is_another_with_each_draw_and_near_the_clean_one() -> None:
    settings = Lmmrec(LIGHT, prototypes=5, weight_mcs=0.0, weight_itcm=0.0, weight_robust=1.0)
    noisy: LmmrecNet = built(settings)
    clean: LmmrecNet = built(replace(settings, weight_robust=0.0, weight_mcs=1.0, temperature=1.0))
    batch = batch_of(noisy)
    draws = {noisy.aligned(batch, noisy.embed()).item() for _ in range(20)}
    assert len(draws) == 20
    assert np.mean(list(draws)) == pytest.approx(clean.aligned(batch, clean.embed()).item(), rel=0.2)


def test_a_sampled_coordination_tells_different_rows_of_some_triples_from_each_other() -> None:
    net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=5, weight_mcs=1.0, weight_itcm=0.0, contrast=12))
    batch, e = batch_of(net), net.embed()
    torch.manual_seed(1)
    some = taken(batch, 12)
    sides = (net.student.users, e.users, some.user), (net.student.items, e.items, some.positive)
    total = torch.zeros(())
    for side, table, column in (*sides, (net.student.items, e.items, some.negative)):
        rows = side.texts.those(column if side is net.student.users else column[:6])
        r, z, others = side.mixed(table[rows]), net.student.z(side, rows), net.student.z(side, rows.unique())
        total = total + literal(r, z, others, 0.2)
    torch.manual_seed(1)
    assert net.objective(batch, e).item() - net.student.backbone.objective(batch, e).item() == pytest.approx(
        total.item(), abs=1e-4
    )


def test_rows_without_a_text_take_no_part() -> None:
    """A batch of users and items without texts has no text loss; what stands in their rows is never read."""
    model = Lmmrec(LIGHT, prototypes=5, weight_itcm=0.5, weight_robust=0.1)
    lonely = tuple(range(20, 40))
    net: LmmrecNet = built(model, user_motives=texts("user", gaps=lonely), item_motives=texts("item", gaps=lonely))
    columns = [torch.tensor([20, 25, 30]), torch.tensor([21, 22, 23]), torch.tensor([31, 32, 33])]
    batch, vectors = Triples(*columns), net.embed()
    assert net.objective(batch, vectors).item() == net.student.backbone.objective(batch, vectors).item()
    before = net.objective(batch_of(net), net.embed()).item()
    net.users.values[20:40] = 1e6
    net.items.values[20:40] = 1e6
    torch.manual_seed(5)
    net.seen.zero_()
    first = net.objective(batch_of(net), net.embed()).item()
    assert math.isfinite(first)
    assert abs(first - before) < 1, "noise alone"


# --- LMMRec: correspondence -------------------------------------------------------------------------------------------


def pair(seed: int = 0, n: int = 7, d: int = 4) -> Motives:
    g = torch.Generator().manual_seed(seed)
    return Motives(*(torch.randn(n, d, generator=g, dtype=torch.float64, requires_grad=True) for _ in "rz"))


MODEL = Lmmrec(LIGHT, temperature_itcm=0.3)


def test_without_softness_it_is_symmetric_infonce() -> None:
    own = pair()
    found = correspondence(own, pair(1), torch.tensor(0.0), MODEL)
    expected = (literal(own.r, own.z, own.z, 0.3) + literal(own.z, own.r, own.r, 0.3)) / 2
    assert found.item() == pytest.approx(expected.item(), abs=1e-6)


def test_a_student_who_is_her_own_teacher_has_nothing_to_learn() -> None:
    own = pair()
    taught = Motives(own.r.detach(), own.z.detach())
    found = correspondence(own, taught, torch.tensor(1.0), MODEL)
    found.backward()
    assert found.item() == pytest.approx(0, abs=1e-9)
    assert max(part.grad.abs().max().item() for part in (own.r, own.z) if part.grad is not None) < 1e-9


def test_correspondence_is_the_mean_of_two_divergences() -> None:
    own, taught = pair(), pair(1)
    s = F.normalize(own.r) @ F.normalize(own.z).T / 0.3
    t = F.normalize(taught.r) @ F.normalize(taught.z).T / 0.3
    total = 0.0
    for x, y in ((s, t), (s.T, t.T)):
        target = (0.4 * y.softmax(1) + 0.6 * torch.eye(7)).detach().numpy()
        q = x.softmax(1).detach().numpy()
        total += (target * np.log(target / q)).sum(axis=1).mean() / 2
    assert correspondence(own, taught, torch.tensor(0.4), MODEL).item() == pytest.approx(total, abs=1e-6)


@pytest.mark.parametrize("temperature", [0.2, 1 / 29, 1 / 95, 0.005])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("soft", [0.0, 0.4, 1.0])
def test_its_gradient_is_that_of_the_plain_form(soft: float, dtype: torch.dtype, temperature: float) -> None:
    """At a low temperature, too, where exponentials of one table span a hundred orders of magnitude."""
    g = torch.Generator().manual_seed(0)
    s, t = ((2 * torch.rand(9, 9, generator=g, dtype=torch.float64) - 1) / temperature for _ in range(2))
    plain = s.clone().requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for x, y in ((plain, t), (plain.T, t.T)):
        target = soft * y.softmax(1) + (1 - soft) * torch.eye(9, dtype=torch.float64)
        total = total + (torch.special.xlogy(target, target) - target * x.log_softmax(1)).sum() / 18
    total.backward()
    assert plain.grad is not None
    ours = s.to(dtype).requires_grad_()
    found = losses.both_ways(ours, t.to(dtype), torch.tensor(soft, dtype=dtype), bound=1 / temperature)
    (3 * found).backward()
    rough = 1e-9 if dtype is torch.float64 else 2e-4
    assert found.dtype == dtype
    assert found.item() == pytest.approx(total.item(), rel=rough, abs=rough)
    assert ours.grad is not None
    assert torch.allclose(ours.grad.double(), 3 * plain.grad, atol=rough)


def test_the_form_over_entries_moves_texts_alone() -> None:
    own, model = pair(), replace(MODEL, correspondence="feature")
    correspondence(own, pair(1), torch.tensor(0.4), model).backward()
    assert own.r.grad is None
    assert own.z.grad is not None
    assert own.z.grad.abs().max() > 0


def test_softness_grows_over_the_first_epoch() -> None:
    net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=5))
    total = len(net.pairs.rows)
    assert net.seen == 0
    for batch in net.batches(np.random.default_rng(0), 64):
        net.objective(batch, net.embed())
    assert net.seen == total
    assert "seen" in net.state_dict(), "a run that was killed goes on where it was"


# --- LMMRec: the teacher ----------------------------------------------------------------------------------------------


def stepped(net: LmmrecNet, steps: int = 1) -> torch.optim.Optimizer:
    optimiser = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=0.01)
    for seed in range(steps):
        net.loss(batch_of(net, seed=seed)).backward()
        optimiser.step()
        optimiser.zero_grad()
    return optimiser


def apart(net: LmmrecNet) -> float:
    own = dict(net.student.named_parameters())
    return math.sqrt(
        sum(float((value - own[name].detach()).square().sum()) for name, value in net.teacher.mean.values.items())
    )


def test_the_teacher_follows_by_the_law_of_the_mean() -> None:
    net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=5, momentum=0.9))
    assert apart(net) == 0
    stepped(net)
    first = apart(net)
    assert first > 0
    for _ in range(10):
        net.teacher.learn(net.student, net.student.backbone.embed())
    assert apart(net) == pytest.approx(first * 0.9**10, rel=1e-4)


@pytest.mark.parametrize("backbone", [*BACKBONES.values(), SimGcl(dim=8, layers=2)], ids=lambda model: model.name)
def test_the_teacher_is_the_mean_of_all_parameters(backbone: Model) -> None:
    """Whether it holds a mean table of the backbone or, where that is linear, the mean of its vectors."""
    net: LmmrecNet = built(Lmmrec(backbone, prototypes=5, momentum=0.7))
    twin = copy.deepcopy(net.student)
    optimiser = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=1.0)
    for seed in range(6):
        with torch.no_grad():  # the mean is taken of what the step begins with
            for mean, own in zip(twin.parameters(), net.student.parameters(), strict=True):
                mean.lerp_(own, 1 - 0.7)
        net.loss(batch_of(net, seed=seed)).backward()
        optimiser.step()
        optimiser.zero_grad()
    rows = torch.arange(3, 9)
    twin.eval()
    net.student.eval()
    with torch.no_grad():
        expected = twin(rows, rows)
        found = net.teacher.ask(net.student, rows, rows)
        student = net.student(rows, rows)
    for side, taught, own in zip(expected, found, student, strict=True):
        assert torch.allclose(side.r, taught.r, atol=1e-6)
        assert torch.allclose(side.z, taught.z, atol=1e-6)
        assert not torch.allclose(own.r, taught.r, atol=1e-4)


def test_nobody_trains_the_teacher() -> None:
    net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=5))
    trained = {id(p) for group in stepped(net, 3).param_groups for p in group["params"]}
    values = net.teacher.mean.values
    assert set(values) == {name for name, _ in net.student.named_parameters() if not name.startswith("backbone.")}
    values |= {"users": net.teacher.e_users, "items": net.teacher.e_items}  # in place of the backbone's table
    for value in values.values():
        assert not value.requires_grad
        assert value.grad is None
        assert id(value) not in trained
    assert not [name for name, _ in net.named_parameters() if name.startswith("teacher")]
    assert [name for name in net.state_dict() if name.startswith("teacher")], "a killed run finds its teacher again"


def test_asking_the_teacher_leaves_the_student_what_she_is() -> None:
    """Her parameters are the same objects as before, still hers to be trained, and every one of them is."""
    net: LmmrecNet = built(Lmmrec(LIGHT, prototypes=5, weight_mcs=0.1))
    before = {name: (p, p.detach().clone()) for name, p in net.student.named_parameters()}
    stepped(net, 4)
    after = dict(net.student.named_parameters())
    assert len({p.data_ptr() for p in after.values()}) == len(after), "nothing is held twice"
    for name, (parameter, value) in before.items():
        assert after[name] is parameter, name
        assert parameter.requires_grad, name
        assert not torch.equal(parameter, value), f"{name} is not trained"


def test_a_fit_that_stops_goes_on_with_the_same_teacher(tmp_path: Path) -> None:
    world = checkerboard()
    model, given = Lmmrec(LIGHT, prototypes=5), {"user_motives": texts("user"), "item_motives": texts("item")}
    whole = model.fit(world.train, world.valid, SHORT, **given)

    class Stop(Exception):
        pass

    def stop(curve: Any) -> None:
        if len(curve.epoch) == 2:
            raise Stop

    with pytest.raises(Stop):
        model.fit(world.train, world.valid, SHORT, folder=tmp_path, progress=stop, **given)
    again = model.fit(world.train, world.valid, SHORT, folder=tmp_path, **given)
    assert again.curve.loss == whole.curve.loss
    assert np.array_equal(vectors_of(again).user, vectors_of(whole).user)


def test_the_teacher_sees_the_whole_graph() -> None:
    """In the student's place, with the student's parameters, it says what she says when nothing is drawn at random."""
    net: LmmrecNet = built(Lmmrec(BACKBONES["sgl"], prototypes=5))
    rows = torch.arange(5, 10)
    net.student.eval()
    own = net.student(rows, rows)
    for side, taught in zip(own, net.teacher.ask(net.student, rows, rows), strict=True):
        assert torch.equal(side.r, taught.r)
        assert torch.equal(side.z, taught.z)
        assert not taught.r.requires_grad


def test_correspondence_is_not_inert() -> None:
    """At default weights what it asks of the vectors is at least a thousandth of what ranking asks."""
    net: LmmrecNet = built(Lmmrec(LightGcn(dim=16, layers=2), prototypes=8))
    stepped(net, 60)
    batch, ground = batch_of(net), net.student.backbone.e0
    for part in ("itcm", "rank"):
        net.zero_grad()
        e = net.embed()
        if part == "itcm":
            only = replace(net.model, weight_mcs=0.0)
            whole, net.model = net.model, only
            net.aligned(batch, e).backward()
            net.model = whole
            itcm = ground.grad.norm().item()
        else:
            net.student.backbone.objective(batch, e).backward()
            assert itcm >= 1e-3 * ground.grad.norm().item()


# --- any backbone -----------------------------------------------------------------------------------------------------

OFF: dict[str, Callable[[Model], Model]] = {
    "con": lambda backbone: Rlmrec(backbone, "con", weight_align=0.0),
    "gen": lambda backbone: Rlmrec(backbone, "gen", weight_align=0.0),
    "lmmrec": lambda backbone: Lmmrec(backbone, prototypes=5, weight_mcs=0.0, weight_itcm=0.0),
}
ON: dict[str, Callable[[Model], Model]] = {
    "con": lambda backbone: Rlmrec(backbone, "con", weight_align=0.1, contrast=20),
    "gen": lambda backbone: Rlmrec(backbone, "gen", weight_align=0.1),
    "lmmrec": lambda backbone: Lmmrec(backbone, prototypes=5, contrast=20),
    "edge": lambda backbone: Lmmrec(backbone, prototypes=5, reading="edge"),
    "residual": lambda backbone: Lmmrec(backbone, prototypes=5, reading="residual"),
    "sum": lambda backbone: Lmmrec(backbone, prototypes=5, fuse="sum", weight_robust=0.01),
    "texts": lambda backbone: Lmmrec(backbone, prototypes=5, fuse="texts"),
    "feature": lambda backbone: Lmmrec(backbone, prototypes=5, correspondence="feature"),
}


def vectors_of(rec: Any) -> Factors:
    return rec.scorer.factors if isinstance(rec.scorer, Motivated) else rec.scorer


def fitted(model: Model) -> Any:
    world = checkerboard()
    names = [need.name for need in model.needs()]
    given = {name: texts("user" if name.startswith("user") else "item") for name in names}
    return model.fit(world.train, world.valid, SHORT, **given)


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("plugin", OFF)
def test_without_weight_the_run_is_the_backbones_bit_by_bit(plugin: str, backbone: str) -> None:
    bare, with_it = fitted(BACKBONES[backbone]), fitted(OFF[plugin](BACKBONES[backbone]))
    assert bare.curve.loss == with_it.curve.loss
    assert np.array_equal(vectors_of(bare).user, vectors_of(with_it).user)
    assert np.array_equal(vectors_of(bare).item, vectors_of(with_it).item)


@pytest.mark.long
@pytest.mark.parametrize("plugin", ON)
def test_l2_is_on_all_parameters(plugin: str) -> None:
    """Strong L2 shrinks the text side, too, as in the published codes."""
    made = ON[plugin](LightGcn(dim=8, layers=2, l2=1.0))
    needs = [need.name for need in made.needs()]
    given = {name: texts("user" if name.startswith("user") else "item") for name in needs}
    net = made.build(checkerboard().train, **given)
    assert isinstance(net, EmbeddingNet)
    before = {name: value.detach().norm() for name, value in net.named_parameters()}
    train.run(net, replace(SHORT, epochs=8, learning_rate=0.05))
    for name, value in net.named_parameters():
        if value.ndim == 2:
            assert value.norm() < 0.3 * before[name], name


@pytest.mark.parametrize("backbone", BACKBONES)
@pytest.mark.parametrize("plugin", ON)
@pytest.mark.long
def test_every_form_works_on_every_backbone_and_changes_it(plugin: str, backbone: str) -> None:
    bare, with_it = fitted(BACKBONES[backbone]), fitted(ON[plugin](BACKBONES[backbone]))
    assert np.isfinite(vectors_of(with_it).user).all()
    own = vectors_of(bare).item
    with_texts = vectors_of(with_it).item[:, : own.shape[1]]  # what stands beside the vectors comes after them
    assert np.abs(with_texts - own).max() > 1e-4


# --- what texts do ----------------------------------------------------------------------------------------------------


def poor(seed: int = 0) -> tuple[splits.Split, Features, Features]:
    """Few choices, of which a quarter are noise; texts tell the group. Training alone knows little."""
    world = checkerboard(users=120, items=80, groups=4, seed=seed)
    rng = np.random.default_rng(seed)
    keep = rng.random(len(world.train)) < 0.3
    train = add_noise(world.train.take(np.flatnonzero(keep)), 0.25, seed, world.split.valid.join(world.split.test))
    features = [world.features(kind, 8, 0.3, seed) for kind in ("user", "item")]
    return splits.Split(train, world.split.valid, world.split.test), features[0], features[1]


def shuffled(features: Features, seed: int = 0) -> Features:
    order = np.random.default_rng(seed).permutation(np.flatnonzero(features.present))
    values = features.values.copy()
    values[features.present] = features.values[order]
    return replace(features, values=values)


@pytest.mark.long
@pytest.mark.parametrize("plugin", ["con", "lmmrec"])
def test_true_texts_help_and_shuffled_ones_do_not(plugin: str) -> None:
    made = {
        "con": Rlmrec(LightGcn(dim=16, layers=2), weight_align=0.1),
        "lmmrec": Lmmrec(LightGcn(dim=16, layers=2), prototypes=16, weight_mcs=0.2, weight_itcm=0.05),
    }[plugin]
    training = Training(epochs=40, batch_size=128, learning_rate=0.02, validate_every=5, patience=4, select="recall@5")
    task = Task(at=(5,), mask=("train",), history=("train",))
    found: dict[str, list[float]] = {"true": [], "none": [], "shuffled": []}
    for seed in range(2):
        split, user, item = poor(seed)
        names = [need.name for need in made.needs()]
        for kind, model, given in (
            ("true", made, (user, item)),
            ("none", made.backbone, ()),
            ("shuffled", made, (shuffled(user), shuffled(item))),
        ):
            rec = model.fit(split.train, split.valid, training, **dict(zip(names, given, strict=False)))
            found[kind].append(evaluate(rec, split, task).mean["recall@5"])
    mean = {kind: float(np.mean(values)) for kind, values in found.items()}
    assert mean["true"] > 1.05 * mean["none"]
    assert mean["shuffled"] < 1.03 * mean["none"]


# --- what is refused --------------------------------------------------------------------------------------------------


def fit(model: Model, **given: Features) -> None:
    world = checkerboard()
    model.fit(world.train, None, SHORT, **given)


@pytest.mark.parametrize("count", [0, 1])
def test_a_text_for_nobody_or_for_one_is_refused(count: int) -> None:
    lone = texts("user", gaps=tuple(range(count, len(checkerboard().train.users))))
    if count:
        lone = texts("user", gaps=(0, *range(2, len(checkerboard().train.users))))
    with pytest.raises(MissingInput, match=rf"`user_motives`: {count} of 61 users (have|has) a text"):
        fit(Lmmrec(LIGHT, prototypes=5), user_motives=lone, item_motives=texts("item"))


def test_texts_from_another_split_are_a_leak() -> None:
    world = checkerboard()
    other = replace(texts("user"), source=Provenance("toy", interactions=world.valid.hash))
    with pytest.raises(Leak, match="user_motives"):
        fit(Lmmrec(LIGHT, prototypes=5), user_motives=other, item_motives=texts("item"))


def test_more_prototypes_than_users_are_refused() -> None:
    with pytest.raises(BadSetting, match=r"prototypes = 42, but there are 61 users and 41 items.*prototypes = 5"):
        fit(Lmmrec(LIGHT, prototypes=42), user_motives=texts("user"), item_motives=texts("item"))


@pytest.mark.parametrize(
    ("backbone", "why"),
    [(ItemKnn(), "trains no vectors"), (Ease(), "trains no vectors"), (Vbpr(), "inputs of its own")],
)
@pytest.mark.parametrize("plugin", [Lmmrec, Rlmrec])
def test_a_backbone_without_vectors_is_refused(plugin: Any, backbone: Model, why: str) -> None:
    names = [need.name for need in plugin(LIGHT).needs()]
    given = {name: texts("user" if name.startswith("user") else "item") for name in names}
    with pytest.raises(BadSetting, match=rf"backbone {backbone.name}.*{why}.*lightgcn"):
        fit(plugin(backbone), **given)


@pytest.mark.parametrize(
    ("model", "why"),
    [
        (Rlmrec(LIGHT, masked=1.0), "masked = 1.0"),
        (Rlmrec(LIGHT, masked=0.0), "masked = 0.0"),
        (Lmmrec(LIGHT, prototypes=5, momentum=1.5), "momentum"),
        (Lmmrec(LIGHT, prototypes=5, soft=-0.1), "soft"),
    ],
)
def test_shares_that_are_none_are_refused(model: Model, why: str) -> None:
    names = [need.name for need in model.needs()]
    given = {name: texts("user" if name.startswith("user") else "item") for name in names}
    with pytest.raises(BadSetting, match=why):
        fit(model, **given)


def test_texts_of_a_catalogue_that_is_larger_are_read_by_key() -> None:
    """Texts in another order and of others, too, change nothing."""
    world = checkerboard()
    user, item = texts("user"), texts("item")
    order = np.random.default_rng(0).permutation(len(user.ids))
    keys = tuple(user.ids.keys[i] for i in order) + ("stranger",)
    values = np.concatenate([user.values[order], np.ones((1, user.dim), np.float32)])
    moved = Features(Ids("user", keys), values, np.append(user.present[order], True), user.source)
    model = Lmmrec(LIGHT, prototypes=5)
    first = model.fit(world.train, None, SHORT, user_motives=user, item_motives=item)
    second = model.fit(world.train, None, SHORT, user_motives=moved, item_motives=item)
    assert np.array_equal(vectors_of(first).user, vectors_of(second).user)
