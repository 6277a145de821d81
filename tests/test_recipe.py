"""Recipes: what is misspelt, mistyped or impossible is said before any work, with the line and the near word."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import tomli_w

from penchant.errors import BadRecipe, BadSetting, MissingFile, PenchantError, UnknownKey
from penchant.inputs import make_split
from penchant.models.bpr import Bpr
from penchant.models.ease import Ease
from penchant.models.lightgcn import LightGcn
from penchant.models.weave import Weave
from penchant.ranking import Candidates
from penchant.recipe import InputSpec, SplitSpec, parse, read
from penchant.shop import make

RECIPES = sorted((Path(__file__).parent.parent / "recipes").glob("*.toml"))

WHOLE = """\
paper = "Somebody, Something, 2020"
data = "shop"
interactions = "interactions_core5"
min_rating = 4
split = { by = "by_time", ratios = [0.7, 0.1, 0.2], seed = 3, k_core = 5 }
[inputs]
image = { from = "catalog.image" }
profile = { from = ["catalog.text", "items.summary"], encoder = "minilm", origin = "external" }
[model]
name = "lightgcn"
dim = 32                # a comment with neighbours = 3
layers = 2
[training]
epochs = 30
batch_size = 128
learning_rate = 1e-2
select = "ndcg@10"
validate_every = 3
patience = 5
seeds = [3, 1]
[protocol]
at = [5, 20]
mask = ["train"]
history = ["train"]
ranking = { candidates = 21, seed = 4 }
min_test = 2
[search]
"model.l2" = [1e-6, 1e-5]
"training.learning_rate" = [1e-3]
[claim]
"recall@20" = { value = 0.1157, relative = 0.05, source = "Table 2", leaks = true }
"ndcg@20" = 0.07
"""

SHORT = 'data = "shop"\n[model]\nname = "lightgcn"\n'


def written(place: Path, text: str) -> Path:
    path = place / "mine.toml"
    path.write_text(text, "utf-8")
    return path


def refused(place: Path, text: str, error: type[PenchantError] = BadRecipe, sets: tuple[str, ...] = ()) -> str:
    """The message, which is of one line and names the file."""
    with pytest.raises(error) as caught:
        read(written(place, text), sets)
    message = str(caught.value)
    assert "mine.toml" in message or "--set" in message
    assert "\n" not in message
    return message


# what comes with Penchant


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_the_recipes_that_come_with_it_can_be_read(path: Path) -> None:
    recipe = read(path)
    assert recipe.name == path.stem
    assert recipe.model.name == tomllib.loads(path.read_text("utf-8"))["model"]["name"]
    if recipe.claim:  # a claim is only comparable under the protocol of the paper, and says where it was read
        knows = (
            ("train", "valid") if recipe.data == "amazon14-beauty" else ("train",)
        )  # of what comes next, all before it
        assert recipe.task.mask == recipe.task.history == knows
        assert all(claim.source for claim in recipe.claim.values())


def test_there_are_recipes() -> None:
    assert {"yelp-lightgcn", "baby-ease", "tiktok-vbpr", "movielens-bpr", "shop-popular"} <= {p.stem for p in RECIPES}


# what a recipe says


def test_every_line_of_a_recipe_arrives(tmp_path: Path) -> None:
    recipe = read(written(tmp_path, WHOLE))
    assert (recipe.name, recipe.paper, recipe.data) == ("mine", "Somebody, Something, 2020", "shop")
    assert (recipe.interactions, recipe.min_rating) == ("interactions_core5", 4.0)
    assert recipe.split == SplitSpec("by_time", 3, (0.7, 0.1, 0.2), k_core=5)
    assert recipe.inputs["image"] == InputSpec(("catalog.image",))
    assert recipe.inputs["profile"] == InputSpec(("catalog.text", "items.summary"), "minilm", "external")
    assert recipe.model == LightGcn(dim=32, layers=2)
    training = recipe.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (30, 128, 0.01)
    assert (training.select, training.validate_every, training.patience) == ("ndcg@10", 3, 5)
    assert recipe.seeds == (3, 1)
    task = recipe.task
    assert (task.part, task.at, task.mask, task.history, task.min_test) == ("test", (5, 20), ("train",), ("train",), 2)
    assert task.candidates == Candidates(21, 4)
    assert task.ranking == "candidates@21"
    assert recipe.search == {"model.l2": (1e-6, 1e-5), "training.learning_rate": (1e-3,)}
    claim = recipe.claim["recall@20"]
    assert (claim.value, claim.relative, claim.source, claim.leaks) == (0.1157, 0.05, "Table 2", True)
    assert (recipe.claim["ndcg@20"].value, recipe.claim["ndcg@20"].leaks) == (0.07, False)


def test_what_a_recipe_leaves_out_has_the_documented_values(tmp_path: Path) -> None:
    recipe = read(written(tmp_path, SHORT))
    assert recipe.task.mask == recipe.task.history == ("train", "valid")
    assert recipe.task.ranking == "full"
    assert recipe.task.candidates is None
    assert (recipe.task.at, recipe.task.min_test, recipe.seeds) == ((10, 20), 1, (0,))
    assert (recipe.training.select, recipe.model) == ("recall@20", LightGcn())
    assert read(written(tmp_path, SHORT + '[protocol]\nranking = "full"\n')).task == recipe.task


# misspellings: every level names the near word and the line


@pytest.mark.parametrize(
    ("text", "wrong", "near", "line"),
    [
        ("sead = 3\n" + SHORT, "sead", None, 1),
        (SHORT.replace("[model]", "splt = {}\n[model]"), "splt", "split", 2),
        ('data = "shop"\n[modle]\nname = "bpr"\n', "modle", "model", 2),
        ('data = "shop"\nsplit = { bye = "given" }\n[model]\nname = "bpr"\n', "bye", "by", 2),
        (SHORT + "layer = 2\n", "layer", "layers", 4),
        (SHORT + "neighbors = 5\n", "neighbors", None, 4),
        (SHORT + "[training]\nepochs = 3\nbatchsize = 3\n", "batchsize", "batch_size", 6),
        (SHORT + "[protocol]\nmasks = ['train']\n", "masks", "mask", 5),
        (SHORT + "[protocol]\nranking = { candidate = 3 }\n", "candidate", "candidates", 5),
        (SHORT + '[inputs]\ntext = { from = "catalog.text", encodr = "minilm" }\n', "encodr", "encoder", 5),
        (SHORT + '[inputs.text]\nfrom = "catalog.text"\norigins = "x"\n', "origins", "origin", 6),
        (SHORT + '[claim]\n"recall@20" = { value = 1, sauce = "x" }\n', "sauce", "source", 5),
        (SHORT + '[claim]\n"recal@20" = 0.1\n', "recal@20", "recall@20", 5),
        (SHORT + '[search]\n"model.layer" = [1, 2]\n', "layer", "layers", 5),
        # the same word is right somewhere else, and stands there first
        ('data = "shop"\n[model]\nname = "bpr"\ndim = 8\n[training]\nepochs = 3\ndim = 4\n', "dim", None, 7),
        ('data = "shop"\n[training]\nepochs = 3\n[model]\nname = "bpr"\nepochs = 4\n', "epochs", None, 6),
        ('data = "shop"\n# seed = 3\n[model]\nname = "bpr"\nseed = 4\n', "seed", None, 5),
        # the seed of a training run is written as seeds
        (SHORT + "[training]\nseed = 4\n", "seed", None, 5),
    ],
)
def test_a_misspelt_setting_names_the_near_one_and_its_line(
    tmp_path: Path, text: str, wrong: str, near: str | None, line: int
) -> None:
    message = refused(tmp_path, text, UnknownKey)
    assert f"`{wrong}`" in message
    assert f"mine.toml, line {line}:" in message
    assert near is None or f"Did you mean `{near}`?" in message
    assert "It has: " in message


def test_a_misspelt_setting_on_the_command_line_has_no_line(tmp_path: Path) -> None:
    message = refused(tmp_path, SHORT, UnknownKey, ("model.dimm=3",))
    assert "Did you mean `dim`?" in message
    assert ", line" not in message


def test_a_misspelt_model_names_the_near_one(tmp_path: Path) -> None:
    message = refused(tmp_path, SHORT.replace("lightgcn", "lightgnc"))
    assert "Did you mean `lightgcn`?" in message
    assert "popular" in message  # and what there is


def test_the_field_that_python_calls_from_is_called_from(tmp_path: Path) -> None:
    message = refused(tmp_path, SHORT + '[inputs]\ntext = { from = "catalog.text", from_ = "x" }\n', UnknownKey)
    assert "Did you mean `from`?" in message
    assert "from_" not in refused(tmp_path, SHORT + '[inputs]\ntext = { from = "catalog.text", x = 1 }\n', UnknownKey)


# values of the wrong kind


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (SHORT.replace('"shop"', "3"), "data = 3"),
        ('data = "shop"\nmodel = "bpr"\n', "[model] must be a table"),
        ('data = "shop"\nsplit = "given"\n[model]\nname = "bpr"\n', "split must be a table"),
        ('data = "shop"\nsplit = { by = "random" }\n[model]\nname = "bpr"\n', "leave_last_out"),
        ('data = "shop"\nsplit = { ratios = [0.8, 0.2] }\n[model]\nname = "bpr"\n', "ratios"),
        ('data = "shop"\nmin_rating = "four"\n[model]\nname = "bpr"\n', "min_rating = 'four'"),
        ('data = "shop"\n[model]\nname = 3\n', "[model] name = 3"),
        (SHORT + 'dim = "many"\n', "[model] lightgcn dim = 'many'"),
        (SHORT + "dim = 1.5\n", "[model] lightgcn dim = 1.5"),
        (SHORT + "dim = true\n", "[model] lightgcn dim = True"),
        (SHORT + 'dim = "32"\n', "[model] lightgcn dim = '32'"),
        (SHORT + "l2 = false\n", "[model] lightgcn l2 = False"),
        (SHORT + "dim = 0\n", "[model] lightgcn dim = 0 must be 1 or more"),
        (SHORT + "negatives = 0\n", "negatives = 0 must be 1 or more"),
        (SHORT + 'dim = { name = "bpr" }\n', 'dim = { name = "bpr" ... }: no model is meant here'),
        (
            'data = "shop"\n[model]\nname = "lmmrec"\n',
            'lacks `backbone`. Add:  backbone = { name = "lightgcn", dim = 32 }',
        ),
        ('data = "shop"\n[model]\nname = "lmmrec"\nbackbone = "bpr"\n', "backbone = 'bpr': a model is meant here"),
        ('data = "shop"\n[model]\nname = "rlmrec"\nbackbone = { dim = 8 }\n', "a model is meant here"),
        (SHORT + "layers = -1\n", "layers = -1 must be 0 or more"),
        (SHORT + "l2 = -1e-3\n", "l2 = -0.001 must be 0 or more"),
        (
            SHORT.replace("lightgcn", "sgl") + "temperature = 0\n",
            "temperature = 0 must be above 0: similarities are divided by it. Usual:  temperature = 0.2",
        ),
        (SHORT + "l2 = inf\n", "l2 = inf"),
        (SHORT.replace("[model]", "split = { by = 'by_ratio', seed = -3 }\n[model]"), "split seed = -3"),
        (SHORT.replace("[model]", "split = { k_core = 0 }\n[model]"), "split k_core = 0"),
        (SHORT + "[training]\nepochs = 0\n", "epochs = 0 must be at least 1"),
        (SHORT + "[training]\npatience = [5]\n", "[training] patience"),
        (SHORT + "[training]\nlearning_rate = -1\n", "learning_rate = -1"),
        (SHORT + "[training]\nlearning_rate = nan\n", "learning_rate = nan"),
        (SHORT + "[training]\nselect = 3\n", "[training] select = 3"),
        (SHORT + '[training]\nselect = "recall"\n', "recall@20"),
        (SHORT + "[training]\nseeds = []\n", "must be distinct, not empty"),
        (SHORT + "[training]\nseeds = [0, 1, 0]\n", "seeds = [0, 1, 0] must be distinct"),
        (SHORT + "[training]\nseeds = 3\n", "[training] seeds = 3"),
        (SHORT + "[training]\nseeds = [0, -1]\n", "seeds"),
        (SHORT + "[protocol]\nat = []\n", "at = []"),
        (SHORT + "[protocol]\nat = [0]\n", "at = [0]"),
        (SHORT + "[protocol]\nat = 10\n", "[protocol] at = 10"),
        (SHORT + '[protocol]\nranking = "sampled"\n', 'choose "full"'),
        (SHORT + "[protocol]\nranking = 21\n", 'choose "full"'),
        (SHORT + "[protocol]\nranking = { candidates = 1 }\n", "at least 2"),
        (SHORT + '[protocol]\nmask = "train"\n', "[protocol] mask = 'train'"),
        (SHORT + "[search]\n'model.l2' = 3\n", "must list the values"),
        (SHORT + "[search]\n'model.l2' = []\n", "must list the values"),
        (SHORT + "[search]\n'model.l2' = [1e-6, 'much']\n", "l2 = 'much'"),
        (SHORT + "[search]\n'protocol.min_test' = [1, 2]\n", "only settings of model and training"),
        (SHORT + "[search]\n'model' = [{ name = 'bpr' }]\n", "only settings of model and training"),
        (SHORT + "[search]\n'training.seeds' = [[0], [1]]\n", "training.seeds"),
        (SHORT + "[claim]\n'recall@20' = 'high'\n", "[claim] recall@20"),
        (SHORT + "[claim]\n'recall@20' = { source = 'x' }\n", "lacks `value`"),
        (SHORT + "[inputs]\ntext = 'catalog.text'\n", "[inputs] text must be a table"),
        (SHORT + "[inputs]\ntext = { encoder = 'minilm' }\n", "[inputs] text lacks `from`"),
        (SHORT + "[inputs]\ntext = { from = 3 }\n", "[inputs] text from"),
        (SHORT + "[inputs]\ntext = { from = [] }\n", "from = []"),
        (SHORT + "[inputs]\ntext = { from = 'users.x', origin = 'mine' }\n", "external"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused_with_its_name(tmp_path: Path, text: str, names: str) -> None:
    assert names in refused(tmp_path, text)


def test_part_names_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    message = refused(tmp_path, SHORT + '[protocol]\nmask = ["trian"]\n', BadSetting)
    assert "'trian'" in message
    assert "train" in message.replace("trian", "")
    for field in ("mask", "history"):
        message = refused(tmp_path, SHORT + f'[protocol]\n{field} = ["train", "test"]\n', BadSetting)
        assert "test" in message


def test_a_claim_must_be_measured(tmp_path: Path) -> None:
    """A claim of a metric that the run does not compute would never be answered."""
    message = refused(tmp_path, SHORT + '[protocol]\nat = [10]\n[claim]\n"recall@20" = 0.1\n', BadSetting)
    assert "recall@20" in message
    assert "recall@10" in message


@pytest.mark.parametrize("text", ['[model]\nname = "bpr"\n', ""])
def test_what_a_recipe_cannot_do_without_is_named_with_an_example(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(BadRecipe, match=r"lacks `data`\. Add: "):
        read(path)


def test_where_no_model_is_named_it_is_weave_and_the_recipe_says_so(tmp_path: Path) -> None:
    found = read(written(tmp_path, 'data = "shop"\n'))
    assert found.model == Weave()
    assert found.raw["model"] == {"name": "weave"}


@pytest.mark.parametrize(
    ("setting", "meant"),
    [
        ("backbone.name=lightgcn", Weave(backbone=LightGcn())),
        ("alpha=2", Weave(alpha=2.0)),
        ("kept=50", Weave(kept=50)),
        ("l2=[100.0]", Weave(l2=(100.0,))),
        ("choose=ndcg@10", Weave(choose="ndcg@10")),
        ("name=bpr", Bpr()),
    ],
)
def test_what_is_set_of_a_model_that_no_recipe_names_is_set_of_weave(
    tmp_path: Path, setting: str, meant: Weave | Bpr
) -> None:
    path = written(tmp_path, 'data = "shop"\n')
    found = read(path, [f"model.{setting}"])
    assert found.model == meant
    assert found.raw["model"]["name"] == meant.name
    assert read(path, ["model.name=bpr", "model.dim=3"]).model == Bpr(dim=3)


def test_a_model_needs_a_name(tmp_path: Path) -> None:
    assert "lacks `name`" in refused(tmp_path, 'data = "shop"\n[model]\ndim = 3\n')


# files


def test_no_such_recipe(tmp_path: Path) -> None:
    """The message names what there is: nothing, files beside it, or files in a folder that was named instead."""
    with pytest.raises(MissingFile, match=r"no recipe .*nowhere.toml.*two lines do"):
        read(tmp_path / "nowhere.toml")
    (tmp_path / "mine.toml").write_text(SHORT)
    with pytest.raises(MissingFile, match=r"no recipe .*Did you mean `mine.toml`"):
        read(tmp_path / "mne.toml")
    with pytest.raises(MissingFile, match=r"is a folder, not a recipe. It has: mine.toml"):
        read(tmp_path)


@pytest.mark.parametrize("content", [b"data = \n", b"\x00\x01", b"data = 'a'\ndata = 'b'\n", b"name = '\xff\xfe'\n"])
def test_what_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "mine.toml").write_bytes(content)
    with pytest.raises(BadRecipe, match=r"mine\.toml is not"):
        read(tmp_path / "mine.toml")


# --set


def test_set_replaces_and_adds(tmp_path: Path) -> None:
    path = written(tmp_path, SHORT + "dim = 8\n")
    recipe = read(
        path,
        (
            "model.dim=16",
            'protocol.mask=["train"]',
            "protocol.at = [5]",
            "training.learning_rate=1e-2",
            "data=other",
            "min_rating=3.5",
            "training.seeds=[4, 5]",
            'inputs.text.from="catalog.text"',
            "inputs.text.encoder=minilm",
            'split.by="leave_last_out"',
            "paper=Someone, a=b",
        ),
    )
    assert recipe.model == LightGcn(dim=16)
    assert (recipe.task.mask, recipe.task.at, recipe.task.history) == (("train",), (5,), ("train", "valid"))
    assert (recipe.training.learning_rate, recipe.seeds) == (0.01, (4, 5))
    assert (recipe.data, recipe.min_rating, recipe.split.by) == ("other", 3.5, "leave_last_out")
    assert recipe.inputs["text"] == InputSpec(("catalog.text",), "minilm")
    assert recipe.paper == "Someone, a=b"


def test_set_leaves_the_file_alone(tmp_path: Path) -> None:
    path = written(tmp_path, SHORT)
    read(path, ("model.dim=16",))
    assert path.read_text("utf-8") == SHORT
    assert read(path).model == LightGcn()


def test_set_can_change_what_is_searched_and_claimed(tmp_path: Path) -> None:
    path = written(tmp_path, SHORT)
    recipe = read(path, ('search."model.l2"=[1e-3]', 'claim."recall@20".value=0.5'))
    assert recipe.search == {"model.l2": (1e-3,)}
    assert recipe.claim["recall@20"].value == 0.5


@pytest.mark.parametrize("item", ["model.dim", "model.dim=", "=3", "", "model..dim=3", ".dim=3"])
def test_a_set_that_says_nothing_is_refused(tmp_path: Path, item: str) -> None:
    with pytest.raises(BadRecipe, match=r"write it as section\.key=value"):
        read(written(tmp_path, SHORT), (item,))


def test_a_set_into_a_value_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe, match="`data` is not a table"):
        read(written(tmp_path, SHORT), ("data.name=3",))


def test_a_set_cannot_smuggle_in_further_lines(tmp_path: Path) -> None:
    with pytest.raises(BadRecipe):
        read(written(tmp_path, SHORT), ("model.dim=3\ndata = 'elsewhere'",))


# with_settings, raw


def test_a_recipe_can_be_written_and_read_again(tmp_path: Path) -> None:
    recipe = read(written(tmp_path, WHOLE), ("model.dim=16", "training.patience=9"))
    again = parse(tomllib.loads(tomli_w.dumps(dict(recipe.raw))), recipe.name)
    assert again == recipe


def test_chosen_settings_replace_the_search_and_nothing_else(tmp_path: Path) -> None:
    recipe = read(written(tmp_path, WHOLE))
    chosen = recipe.with_settings({"model.l2": 1e-5, "training.learning_rate": 1e-3})
    assert chosen.model == LightGcn(dim=32, layers=2, l2=1e-5)
    assert chosen.training.learning_rate == 1e-3
    assert chosen.search == {}
    for field in ("data", "split", "inputs", "seeds", "task", "claim", "name"):
        assert getattr(chosen, field) == getattr(recipe, field)
    assert recipe.raw["model"] == {"name": "lightgcn", "dim": 32, "layers": 2}  # the original is as it was
    assert "search" in recipe.raw
    assert recipe == read(written(tmp_path, WHOLE))


def test_whole_numbers_stand_for_fractions_where_fractions_are_meant(tmp_path: Path) -> None:
    recipe = read(written(tmp_path, 'data = "shop"\n[model]\nname = "ease"\nl2 = 200\n'))
    assert recipe.model == Ease(l2=200.0)
    assert read(written(tmp_path, SHORT.replace("lightgcn", "bpr") + "l2 = 1e-3\n")).model == Bpr(l2=1e-3)


def test_none_can_be_said_where_it_is_meant_and_nowhere_else(tmp_path: Path) -> None:
    text = 'data = "shop"\n[model]\nname = "lmmrec"\ncontrast = {}\nbackbone = {{ name = "bpr", dim = {} }}\n'
    found = {}
    for value in ('"none"', "64"):
        path = tmp_path / "recipe.toml"
        path.write_text(text.format(value, 8), "utf-8")
        found[value] = getattr(read(path).model, "contrast", "?")
    assert found == {'"none"': None, "64": 64}
    path.write_text(text.format('"none"', '"none"'), "utf-8")
    with pytest.raises(BadSetting, match="dim = 'none'"):
        read(path)
    searched = read(path, ["model.backbone.dim=8", 'search."model.contrast"=["none", 64]'])
    assert getattr(searched.with_settings({"model.contrast": "none"}).model, "contrast", "?") is None


# splits


def test_k_core_of_a_given_split_is_refused() -> None:
    data = make(products=24, shoppers=20, choices=5, pictures=False).dataset
    with pytest.raises(BadSetting, match="k_core with a given split"):
        make_split(data, SplitSpec("given", k_core=2))
    assert len(make_split(data, SplitSpec("by_ratio", k_core=2)).train)


def test_a_given_split_must_have_been_given() -> None:
    data = make(products=24, shoppers=20, choices=5, pictures=False).dataset
    with pytest.raises(PenchantError, match="split"):
        make_split(data, SplitSpec("given"))
