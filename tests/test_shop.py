"""The shop: the same seed gives the same world, and what is planted in it can be found, but is never given away."""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import sparse

from penchant import shop, split
from penchant.data import no_history
from penchant.errors import BadSetting, UnknownKey
from penchant.shop_choices import BY_MOTIVE, Tastes, Visits, choose, visits
from penchant.shop_pictures import ACCENTS, COLOURS, PATTERNS
from penchant.shop_reviews import sentences, signs, write
from penchant.shop_words import MOTIVES, categories

pytestmark = pytest.mark.long  # part of ./test; scripts/check has to be quick

SEEDS = range(5)


@pytest.fixture(scope="module")
def world() -> shop.Shop:
    return shop.make(seed=0)


@pytest.fixture(scope="module")
def worlds() -> list[shop.Shop]:
    return [shop.make(seed=seed, pictures=False) for seed in SEEDS]


@pytest.fixture(scope="module")
def pixels(world: shop.Shop) -> np.ndarray:
    """(I, 128, 128, 3) float32"""
    pictures = world.dataset.catalog.pictures
    opened = [Image.open(io.BytesIO(pictures.read(row) or b"")) for row in range(len(world.dataset.items))]
    return np.stack([np.asarray(picture, np.float32) for picture in opened])


def forbidden_stems() -> set[str]:
    """The words of the motives' names, cut to what their simple forms share."""
    empty = {"a", "for", "the", "over"}
    named = {word for name in MOTIVES for word in re.split(r"[\s-]", name.lower())} - empty
    stems = {re.sub(r"(ren|able|ly|es|s|e)$", "", word) for word in named}
    assert {"sav", "money", "outdoor", "gift", "styl", "pric", "dur", "child", "eco", "friend", "tim"} == stems
    # "durable" shares its first letters with "during", so the longer stem stands for it.
    return stems - {"dur"} | {"durab"}


def told(text: str, stems: set[str]) -> list[str]:
    """The words of a text that begin with one of the stems."""
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word.startswith(tuple(stems))]


def recall(score: np.ndarray, train: sparse.csr_matrix, held: sparse.csr_matrix, k: int = 20) -> float:
    """Mean share of a user's held-out items among her k best that she has not had."""
    score = np.array(score, np.float64)
    score[train.nonzero()] = -np.inf
    top = np.argsort(-score, axis=1, kind="stable")[:, :k]
    wanted = held.toarray() > 0
    some = wanted.any(axis=1)
    hits = np.take_along_axis(wanted, top, axis=1).sum(axis=1)
    return float((hits[some] / wanted.sum(axis=1)[some]).mean())


# ---------------------------------------------------------------------------------------------------- the same world


def test_same_seed_same_world_and_other_seed_another(world: shop.Shop) -> None:
    again, other = shop.make(), shop.make(seed=1)
    assert again.dataset.hash == world.dataset.hash
    assert again.dataset.catalog.hash == world.dataset.catalog.hash
    assert again.dataset.catalog.pictures.source == world.dataset.catalog.pictures.source
    assert np.array_equal(again.truth(np.arange(50)), world.truth(np.arange(50)))
    assert other.dataset.hash != world.dataset.hash
    assert other.dataset.catalog.hash != world.dataset.catalog.hash
    assert other.dataset.catalog.pictures.source != world.dataset.catalog.pictures.source


def test_the_world_behind_recorded_claims_has_not_changed() -> None:
    """Every number measured on the shop is about this world. If it must change, repeat the claims, then this hash."""
    small = shop.make(products=60, shoppers=200, choices=8, pictures=False)
    assert (small.dataset.hash[:16], small.dataset.catalog.hash[:16]) == ("1590d690cb83f7a0", "213bcefe1f62ca08")


def test_noise_and_drift_leave_products_and_shoppers_alone(world: shop.Shop) -> None:
    other = shop.make(noise=0.4, drift=0.6, pictures=False)
    assert other.dataset.catalog.hash == world.dataset.catalog.hash
    assert np.array_equal(other.before, world.before)
    assert np.array_equal(other.appeal, world.appeal)
    assert other.dataset.hash != world.dataset.hash


def test_settings_may_be_given_whole_or_one_by_one() -> None:
    small = shop.Settings(products=48, shoppers=30, choices=6, pictures=False)
    assert shop.make(small, seed=3).dataset.hash == shop.make(replace(small, seed=3)).dataset.hash
    assert not shop.make(small).dataset.catalog.pictures.present.any()


@pytest.mark.parametrize(
    "wrong",
    [
        {"noise": 1.2},
        {"review_noise": -0.1},
        {"drift": 2},
        {"reviewed": -1},
        {"products": 10},
        {"shoppers": 0},
        {"seed": -1},
        {"choices": 4},
        {"choices": 300},
    ],
)
def test_impossible_settings_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(BadSetting, match=next(iter(wrong))):
        shop.make(**wrong)


def test_a_misspelt_setting_is_answered_with_the_near_one() -> None:
    with pytest.raises(UnknownKey, match="shoppers"):
        shop.make(shopers=10)


# -------------------------------------------------------------------------------------------------- sizes and moments


def test_default_sizes(worlds: list[shop.Shop]) -> None:
    for made in worlds:
        log = made.dataset.interactions
        assert (len(made.dataset.items), len(made.dataset.users)) == (400, 2500)
        assert 25_000 <= len(log) <= 40_000
        per_user = np.bincount(log.user, minlength=2500)
        assert per_user.min() >= 5
        assert per_user.max() >= 3 * np.median(per_user)  # a long tail
        assert abs(per_user.mean() - made.settings.choices) < 0.3
        per_item = np.bincount(log.item, minlength=400)
        assert per_item.min() >= 3
        assert per_item.max() >= 5 * np.median(per_item)
        assert len(np.unique(log.user.astype(np.int64) * 400 + log.item)) == len(log)
        assert log.review is not None
        assert np.mean([review is not None for review in log.review]) == pytest.approx(0.6, abs=0.01)


@given(
    products=st.integers(24, 60),
    shoppers=st.integers(1, 40),
    share=st.floats(0, 1),
    noise=st.floats(0, 1),
    drift=st.floats(0, 1),
    reviewed=st.floats(0, 1),
    seed=st.integers(0, 10**6),
)
@settings(max_examples=40, deadline=None)
def test_any_allowed_settings_make_a_sound_world(
    products: int, shoppers: int, share: float, noise: float, drift: float, reviewed: float, seed: int
) -> None:
    choices = 5 + share * (products / 4 - 5)
    made = shop.make(
        products=products,
        shoppers=shoppers,
        choices=choices,
        noise=noise,
        drift=drift,
        reviewed=reviewed,
        seed=seed,
        pictures=False,
    )
    log = made.dataset.interactions
    pair = log.user.astype(np.int64) * products + log.item
    assert len(np.unique(pair)) == len(pair)
    assert log.item.min() >= 0
    assert log.item.max() < products
    assert np.bincount(log.user, minlength=shoppers).min() >= 5
    assert np.bincount(log.user).max() <= products // 2
    assert np.isfinite(made.truth(np.arange(shoppers))).all()
    assert len(set(made.dataset.catalog.fields["title"])) == products
    assert np.allclose(made.before.sum(axis=1), 1)
    assert np.allclose(made.after.sum(axis=1), 1)


def test_moments_lie_in_two_years_oldest_first_and_some_are_shared(world: shop.Shop) -> None:
    log = world.dataset.interactions
    assert log.time is not None
    assert log.time.dtype == np.int64
    assert (np.diff(log.time) >= 0).all()
    assert log.time.min() >= 1_672_531_200  # 1 January 2023
    assert log.time.max() <= 1_735_776_000  # 2 January 2025
    order = log.order()
    same = (np.diff(log.user[order]) == 0) & (np.diff(log.time[order]) == 0)
    assert 0.05 < same.mean() < 0.25  # baskets
    hour = log.time % 86_400 // 3600
    assert (hour < 6).mean() < 0.02  # people sleep


def test_the_default_world_goes_through_every_split(world: shop.Shop) -> None:
    log = world.dataset.interactions
    for made in (split.leave_last_out(log), split.by_ratio(log), split.by_time(log), split.cold_items(log)):
        assert min(len(made.train), len(made.valid), len(made.test)) > 500


# --------------------------------------------------------------------------------------------------------- how they choose


def tastes_of(utility: np.ndarray, shoppers: int) -> tuple[Tastes, np.ndarray]:
    """Shoppers of one motive, to whom the items have these utilities."""
    items = len(utility)
    appeal = np.zeros((items, len(MOTIVES)), np.float32)
    appeal[:, 0] = utility / BY_MOTIVE
    motives = np.zeros((shoppers, len(MOTIVES)), np.float32)
    motives[:, 0] = 1
    zero = np.zeros(items, np.float32)
    shelf = np.zeros((shoppers, 1), np.float32)
    return Tastes(motives, shelf, np.ones(shoppers, np.float32), np.zeros(items, int), zero, zero), appeal


@pytest.mark.parametrize("picks", [1, 2, 3])
def test_choices_follow_the_softmax_without_replacement(picks: int) -> None:
    """Shares of chosen sets against all orders counted out by hand."""
    utility, shoppers = np.array([1.5, 0.6, 0.0, -0.3, -1.2]), 40_000
    tastes, appeal = tastes_of(utility, shoppers)
    who = np.repeat(np.arange(shoppers), picks)
    no = np.zeros(len(who), bool)
    plan = Visits(who, np.zeros(len(who), np.int64), no, no, np.full(shoppers, -1))
    item = choose(plan, tastes, tastes, appeal, seed=0).reshape(shoppers, picks)

    weight = np.exp(utility)
    exact: dict[tuple[int, ...], float] = {}
    for order in itertools.permutations(range(5), picks):
        chance, left = 1.0, weight.sum()
        for chosen in order:
            chance, left = chance * weight[chosen] / left, left - weight[chosen]
        exact[tuple(sorted(order))] = exact.get(tuple(sorted(order)), 0) + chance
    sets, counts = np.unique(np.sort(item, axis=1), axis=0, return_counts=True)
    found = {tuple(s): c / shoppers for s, c in zip(sets.tolist(), counts, strict=True)}
    for chosen_set, chance in exact.items():
        assert abs(found.get(chosen_set, 0) - chance) < 4.5 * np.sqrt(chance * (1 - chance) / shoppers)
    # Within a history the order is no ranking: the best item comes first no more often than last.
    best = item == 0
    assert abs(best[:, 0].mean() - best[:, -1].mean()) < 0.01


def test_blind_choices_are_uniform() -> None:
    tastes, appeal = tastes_of(np.linspace(-3, 3, 30), 5000)
    plan = visits(5000, 7, 5, 15, noise=1, drift=0, seed=1)
    item = choose(plan, tastes, tastes, appeal, seed=1)
    share = np.bincount(item, minlength=30) / len(item)
    assert np.abs(share - 1 / 30).max() < 0.003


def test_noise_is_the_share_of_random_choices() -> None:
    for noise in (0, 0.3):
        made = shop.make(noise=noise, pictures=False)
        assert made.blind.mean() == pytest.approx(noise, abs=0.01)
        assert (made.driver[made.blind] == -1).all()


def test_noise_lowers_what_the_truth_can_foretell(worlds: list[shop.Shop]) -> None:
    found = []
    for noise in (0.0, 0.15, 0.3):
        parts = split.by_ratio(shop.make(noise=noise, pictures=False).dataset.interactions)
        made = worlds[0]  # motives do not depend on the noise
        found.append(recall(made.truth(np.arange(2500)), parts.train.matrix(), parts.test.matrix()))
    assert found[0] > found[1] * 1.05 > found[2] * 1.1


@pytest.mark.parametrize("chronological", [False, True])
def test_popularity_below_a_learned_model_below_the_truth(worlds: list[shop.Shop], chronological: bool) -> None:
    """On every seed each gap in Recall@20 is at least 20 %; the learned model is EASE in closed form."""
    for made in worlds:
        parts = split.by_ratio(made.dataset.interactions, seed=0, chronological=chronological)
        train, test = parts.train.matrix(np.float64), parts.test.matrix()
        popular = recall(np.tile(np.asarray(train.sum(axis=0)), (train.shape[0], 1)), train, test)
        inverse = np.linalg.inv((train.T @ train).toarray() + 100 * np.eye(train.shape[1]))
        weights = -inverse / np.diag(inverse)
        np.fill_diagonal(weights, 0)
        learned = recall(train @ weights, train, test)
        true = recall(made.truth(np.arange(2500)), train, test)
        assert learned > 1.2 * popular
        assert true > 1.2 * learned


# ----------------------------------------------------------------------------------------------------------- the truth


def test_each_shopper_has_two_or_three_motives(world: shop.Shop) -> None:
    for weights in (world.before, world.after):
        assert np.allclose(weights.sum(axis=1), 1)
        assert set((weights > 0).sum(axis=1).tolist()) == {2, 3}
    assert len(world.motives) == 8
    assert ((world.before > 0).mean(axis=0) > 0.2).all()


def test_drift_replaces_motives_at_a_known_moment(world: shop.Shop) -> None:
    log, changed = world.dataset.interactions, world.changed_at >= 0
    assert log.time is not None
    assert changed.mean() == pytest.approx(0.25, abs=0.03)
    assert np.array_equal(world.before[~changed], world.after[~changed])
    assert ((world.before[changed] > 0) & (world.after[changed] > 0)).sum() == 0
    for row in np.flatnonzero(changed)[:50]:
        when = log.time[log.user == row]
        assert 0.2 < (when < world.changed_at[row]).mean() < 0.9
    # What made a choice is a motive that the shopper had at that moment.
    late = changed[log.user] & (log.time >= world.changed_at[log.user])
    driven = world.driver >= 0
    had = np.where(late[:, None], world.after[log.user], world.before[log.user])
    assert (had[driven, world.driver[driven]] > 0).all()
    steady = shop.make(drift=0, products=48, shoppers=50, choices=6, pictures=False)
    assert (steady.changed_at == -1).all()
    assert np.array_equal(steady.before, steady.after)


def test_after_a_change_the_new_motives_foretell_better(world: shop.Shop) -> None:
    parts = split.by_ratio(world.dataset.interactions, chronological=True)
    users = np.flatnonzero(world.changed_at >= 0)
    train, test = parts.train.matrix()[users], parts.test.matrix()[users]
    assert recall(world.truth(users), train, test) > 1.5 * recall(world.truth(users, at="start"), train, test)
    with pytest.raises(BadSetting, match="end"):
        world.truth(users, at="middle")


def test_truth_takes_queries_and_strangers(world: shop.Shop) -> None:
    rows = np.array([4, -1, 7])
    score = world.truth(no_history(rows))
    assert score.shape == (3, 400)
    assert score.dtype == np.float32
    assert np.array_equal(world.score(no_history(rows)), score)
    assert np.array_equal(score[[0, 2]], world.truth(np.array([4, 7])))
    # A stranger is taken for the mean shopper: below anybody's own motives, above chance.
    parts = split.by_ratio(world.dataset.interactions)
    train, test = parts.train.matrix(), parts.test.matrix()
    stranger = recall(world.truth(np.full(2500, -1)), train, test)
    assert 0.05 * 1.5 < stranger < recall(world.truth(np.arange(2500)), train, test)


def test_what_only_pictures_show_matters(worlds: list[shop.Shop]) -> None:
    for made in worlds:
        parts = split.by_ratio(made.dataset.interactions)
        train, test = parts.train.matrix(), parts.test.matrix()
        users = np.arange(2500)
        blindfold = recall(made.truth(users, pictures=False), train, test)
        assert recall(made.truth(users), train, test) > 1.08 * blindfold


# ----------------------------------------------------------------------------------------------------------- the words


def test_no_text_uses_a_motives_own_words(worlds: list[shop.Shop]) -> None:
    stems = forbidden_stems()
    praise, missed, talk = sentences()
    for text in itertools.chain(*praise, *missed, talk):
        assert not told(text, stems), text
    nouns = " ".join(noun for c in categories() for names in c.nouns for noun in names)
    assert not told(nouns, stems)
    for made in worlds:
        whole = {word for r in made.dataset.interactions.review or () if r for word in re.findall(r"[a-z]+", r.lower())}
        assert not told(" ".join(whole), stems)
        for name in ("title", "brand", "categories", "description"):
            assert not told(" ".join(filter(None, made.dataset.catalog.fields[name])), stems)


def test_titles_and_descriptions_are_all_different_and_whole(worlds: list[shop.Shop]) -> None:
    for made in worlds:
        fields = made.dataset.catalog.fields
        assert len(set(fields["title"])) == 400
        assert len(set(fields["description"])) == 400
        for text in (*fields["title"], *fields["description"]):
            assert text
            assert text[0].isupper() or text[0].isdigit()
            assert not re.search(r"[{}]|  | [.,]|\.\.", text), text
        assert np.mean([", No. " in (title or "") for title in fields["title"]]) < 0.05


def test_titles_stay_unique_in_a_large_shop() -> None:
    large = shop.make(products=5000, shoppers=5, choices=6, pictures=False)
    assert len(set(large.dataset.catalog.fields["title"])) == 5000


def test_catalogue_columns_have_their_types(world: shop.Shop) -> None:
    catalog = world.dataset.catalog
    assert catalog.numbers["price"].dtype == pl.Float64
    assert catalog.numbers["in_stock"].dtype == pl.Boolean
    assert catalog.numbers["price"].min() >= 0.95
    assert 0.85 < catalog.numbers["in_stock"].mean() < 0.99
    assert catalog.texts().present.all()
    assert len(set(catalog.fields["categories"])) == 12


def test_prices_speak_to_those_who_count_them(world: shop.Shop) -> None:
    """Within a category the dear things are worth less to the first motive."""
    price = np.log(np.array(world.dataset.catalog.numbers["price"]))
    shelf = np.array(world.dataset.catalog.fields["categories"])
    for name in np.unique(shelf):
        rows = shelf == name
        assert np.corrcoef(price[rows], world.appeal[rows, 0])[0, 1] < -0.5


def test_words_tell_what_products_are_to_motives(world: shop.Shop) -> None:
    """A linear reader of the words foretells appeal (without its picture part) on products it has not read."""
    words = bag_of_words(world)
    spoken = (world.appeal - world.appeal_pictures)[:, 1:]  # the first motive hangs on the price
    guess, held = ridge(words, spoken, 5)
    explained = 1 - ((spoken[held] - guess) ** 2).sum(axis=0) / ((spoken[held] - spoken[~held].mean(axis=0)) ** 2).sum(
        0
    )
    assert (explained > 0.6).all()


# --------------------------------------------------------------------------------------------------------- the reviews


def test_reviews_follow_the_motive_that_made_the_choice(worlds: list[shop.Shop]) -> None:
    """Count sign words: the motive with most is what the review was about, and almost always the shopper's own."""
    for made in worlds[:2]:
        log = made.dataset.interactions
        assert log.review is not None
        rows = [row for row in range(0, len(log), 7) if log.review[row] and made.about[row] >= 0]
        counts = np.stack([made.match(log.review[row] or "") for row in rows])
        guess, about = counts.argmax(axis=1), made.about[rows]
        assert (guess == about).mean() > 0.7
        own = (made.before + made.after)[log.user[rows], guess] > 0
        assert own.mean() > 0.85
        # Chance: a shopper has two to five of eight motives.
        assert own.mean() > 2 * (made.before + made.after > 0).mean()


def test_review_noise_and_choice_noise_are_two_dials() -> None:
    quiet, loud = (shop.make(review_noise=share, pictures=False) for share in (0.0, 0.5))
    assert np.array_equal(quiet.dataset.interactions.item, loud.dataset.interactions.item)
    log = quiet.dataset.interactions
    own = [(made.before + made.after)[log.user, np.maximum(made.about, 0)] > 0 for made in (quiet, loud)]
    spoken = [made.about >= 0 for made in (quiet, loud)]
    assert own[0][spoken[0]].all()
    assert own[1][spoken[1]].mean() < 0.9
    assert spoken[1].mean() < 0.85 * spoken[0].mean()


def test_reviews_are_varied_and_whole(world: shop.Shop) -> None:
    reviews = [r for r in world.dataset.interactions.review or () if r]
    assert len(set(reviews)) > 0.4 * len(reviews)
    assert max(map(len, reviews)) < 300
    for review in reviews:
        assert not re.search(r"[{}]|  |^\s|\s$|\ba umb", review), review
        assert review[-1] in ".!"
    assert all(len(s) > 15 for s in signs())


def test_written_reviews_are_glad_or_not_as_told() -> None:
    praise, missed, talk = sentences()
    n = 400
    about = np.arange(n) % 10 - 2  # -2 silent, -1 small talk, then the motives
    glad = np.arange(n) % 20 < 10
    silent = np.full(n, -2)
    found = write(about, glad, silent, glad, np.zeros(n, int), seed=0)
    for motive, happy, review in zip(about.tolist(), glad.tolist(), found, strict=True):
        if motive == -2:
            assert review is None
            continue
        group = talk if motive == -1 else (praise if happy else missed)[motive]
        assert any(line.format(n="tent") in review for line in group), review


# -------------------------------------------------------------------------------------------------------- the pictures


def test_every_product_has_a_small_colour_picture(world: shop.Shop, pixels: np.ndarray) -> None:
    assert world.dataset.catalog.pictures.present.all()
    assert pixels.shape == (400, 128, 128, 3)
    assert len(set(world.dataset.catalog.pictures.source)) == 400
    assert all(raw.startswith(b"\x89PNG") for raw in world.dataset.catalog.pictures.source)  # type: ignore[union-attr]
    assert np.mean([len(raw) for raw in world.dataset.catalog.pictures.source]) < 8000  # type: ignore[arg-type]


def test_no_text_names_pattern_or_accent(worlds: list[shop.Shop]) -> None:
    stems = {"plain", "strip", "dot", "check", "zigzag", "zig", "star", "spotted"} | set(ACCENTS)
    assert {*PATTERNS} == {"plain", "stripes", "dots", "checks", "zigzag", "stars"}
    for made in worlds:
        texts = itertools.chain(*made.dataset.catalog.fields.values(), made.dataset.interactions.review or ())
        words = {word for text in texts if text for word in re.findall(r"[a-z]+", text.lower())}
        assert not told(" ".join(words), stems)
    assert shop.PICTURE_ONLY == ("pattern", "accent")


def test_accent_and_fill_can_be_counted_in_pixels(world: shop.Shop, pixels: np.ndarray) -> None:
    some = pixels[:150]

    def counted(palette: dict[str, tuple[int, int, int]], within: int) -> np.ndarray:
        """How many points of each picture come this near to each colour. (colours, 150)"""
        near = [
            (np.abs(some - np.float32(colour)) < within).all(axis=-1).sum(axis=(1, 2)) for colour in palette.values()
        ]
        return np.stack(near)

    accents = counted(ACCENTS, 12)
    assert [list(ACCENTS)[best] for best in accents.argmax(axis=0)] == list(world.accent[:150])
    assert accents.max(axis=0).min() > 150  # large enough to be seen: one hundredth of the picture
    # The colour that a text names is the fill's.
    by_text = [
        [name for name in COLOURS if re.search(rf"\b{name}\b", (text or "").lower())]
        for text in world.dataset.catalog.fields["description"][:150]
    ]
    assert all(len(names) == 1 for names in by_text)
    seen = counted(COLOURS, 6).argmax(axis=0)
    assert np.mean([list(COLOURS)[best] == names[0] for best, names in zip(seen, by_text, strict=True)]) > 0.9


def test_pattern_can_be_read_from_the_picture_and_not_from_the_words(world: shop.Shop, pixels: np.ndarray) -> None:
    """The same linear reader, once over edges in cells of the picture, once over words; chance is one in six."""
    pattern = np.array([PATTERNS.index(name) for name in world.pattern])
    accent = np.array([list(ACCENTS).index(name) for name in world.accent])
    seen, held = ridge(edges(pixels), np.eye(6)[pattern], 100)
    assert (seen.argmax(axis=1) == pattern[held]).mean() > 0.8
    for hidden in (pattern, accent):
        read, held = ridge(bag_of_words(world), np.eye(6)[hidden], 100)
        assert (read.argmax(axis=1) == hidden[held]).mean() < 0.3


def test_patterns_and_accents_move_the_choices_of_those_who_look(world: shop.Shop) -> None:
    """Shoppers with "style over price" or "for children" choose patterns and accents in other shares than the rest."""
    log = world.dataset.interactions
    spread = world.appeal_pictures.std(axis=0)
    assert (spread[[2, 3, 5]] > 0.5).all()
    for motive in (3, 5):
        fond = ((world.before[:, motive] > 0.4) & (world.after[:, motive] > 0.4))[log.user]
        liked = world.appeal_pictures[log.item, motive]
        assert liked[fond].mean() > liked[~fond].mean() + 0.2


def bag_of_words(made: shop.Shop) -> np.ndarray:
    """(I, words) float, 1 where the text holds the word."""
    texts = [set(re.findall("[a-z]+", (text or "").lower())) for text in made.dataset.catalog.texts().values]
    vocabulary = sorted(set().union(*texts))
    return np.array([[word in text for word in vocabulary] for text in texts], float)


def edges(pixels: np.ndarray, cell: int = 21, angles: int = 8) -> np.ndarray:
    """Directions of edges by cell, each cell scaled to length 1. (I, cells * angles)"""
    grey = pixels.mean(axis=-1)
    down, right = grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1], grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2]
    strength = np.hypot(down, right)
    angle = (np.arctan2(down, right) % np.pi / np.pi * angles + 0.5).astype(int) % angles
    count = 126 // cell
    shape = (len(grey), count, cell, count, cell)
    found = np.stack([(strength * (angle == a)).reshape(shape).sum(axis=(2, 4)) for a in range(angles)], axis=-1)
    found /= np.linalg.norm(found, axis=-1, keepdims=True) + 50
    return found.reshape(len(grey), -1)


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Least squares on three quarters of the rows; guesses for the others, and which those are."""
    held = np.arange(len(x)) % 4 == 0
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-6) if x.dtype == np.float32 else x - x.mean(axis=0)
    mean = y[~held].mean(axis=0)
    weights = np.linalg.solve(x[~held].T @ x[~held] + strength * np.eye(x.shape[1]), x[~held].T @ (y[~held] - mean))
    return x[held] @ weights + mean, held
