"""Configs: composition from files and words, and the directories that are pure functions of the result."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest

from peace import config
from peace.config import compose, fingerprint, run_directory, zoo_directory
from peace.errors import InputError

FILES = {
    "base": """
        defaults:
          - encoder: layer_gnn
        seed: 0
        paths: {runs: runs, zoos: zoos}
        """,
    "pretrain": """
        defaults:
          - base
          - loss: nt_xent
        experiment: ???
        lr: 1e-4
        betas: [0.9, 0.99]
        notes: null
        trainer: {epochs: 3, seed: "${seed}", name_of_run: "${experiment}-${trainer.epochs}"}
        """,
    "swapped": "defaults: [base, encoder: flat]",
    "over": """
        defaults: [encoder: layer_gnn, loss: nt_xent]
        encoder: {num_layers: 8}
        """,
    "open": "defaults:\n  - encoder: ???\nseed: 1",
    "alone": "seed: 1",
    "nothing": "",
    "encoder/layer_gnn": "name: layer_gnn\nnum_layers: 4\nhidden_dim: 64",
    "encoder/flat": "name: flat\nwidth: 5",
    "loss/nt_xent": "name: nt_xent\ntemperature: 0.1",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A configs folder that no test shares with the project's own."""
    for name, text in FILES.items():
        write(tmp_path / "configs", name, text)
    return tmp_path / "configs"


def write(root: Path, name: str, text: str) -> Path:
    path = root / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True, parents=True)
    lines = text.strip("\n").splitlines()
    margin = min((len(line) - len(line.lstrip()) for line in lines if line.strip()), default=0)
    path.write_text("\n".join(line[margin:] for line in lines))
    return path


# --- composition


def test_defaults_come_first_in_their_order_and_own_keys_last(root: Path) -> None:
    composed = compose("pretrain", ["experiment=first"], root=root)
    assert list(composed) == ["encoder", "seed", "paths", "loss", "experiment", "lr", "betas", "notes", "trainer"]
    assert composed["encoder"] == {"name": "layer_gnn", "num_layers": 4, "hidden_dim": 64}
    assert composed["loss"] == {"name": "nt_xent", "temperature": 0.1}
    assert compose("over", root=root)["encoder"] == {"name": "layer_gnn", "num_layers": 8, "hidden_dim": 64}


def test_values_have_their_yaml_types(root: Path) -> None:
    composed = compose("pretrain", ["experiment=first"], root=root)
    assert composed["lr"] == 0.0001 and isinstance(composed["lr"], float)
    assert composed["notes"] is None
    assert composed["betas"] == [0.9, 0.99] and type(composed["betas"]) is list
    assert type(composed["encoder"]) is dict


@pytest.mark.parametrize("root_given", [True, False])
def test_a_config_is_named_or_a_path(root: Path, monkeypatch: pytest.MonkeyPatch, root_given: bool) -> None:
    monkeypatch.setenv("PEACE_HOME", str(root.parent))
    own = write(root.parent, "mine", "defaults: [base]\nseed: 7")
    where = root if root_given else None
    assert compose("alone", root=where) == {"seed": 1}
    assert compose("nothing", root=where) == {}
    assert compose(str(own), root=where)["seed"] == 7


def test_a_later_default_takes_the_place_of_an_earlier_choice(root: Path) -> None:
    assert compose("swapped", root=root)["encoder"] == {"name": "flat", "width": 5}


def test_a_word_swaps_a_group_wherever_it_was_chosen(root: Path) -> None:
    for name in ("base", "swapped", "open"):
        assert compose(name, ["encoder=flat"], root=root)["encoder"] == {"name": "flat", "width": 5}
    # What a file sets for one encoder is not meant for another.
    assert compose("over", ["encoder=flat"], root=root)["encoder"] == {"name": "flat", "width": 5}


def test_a_word_sets_a_value_of_the_chosen_group_in_any_order(root: Path) -> None:
    words = ["encoder=flat", "encoder.width=9"]
    for order in (words, words[::-1]):
        assert compose("base", order, root=root)["encoder"] == {"name": "flat", "width": 9}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 0.0001),
        ("-2.5E+3", -2500.0),
        (".5", 0.5),
        ("3", 3),
        ("-7", -7),
        ("null", None),
        ("", None),
        ("true", True),
        ("word", "word"),
        ("'3'", "3"),
        ("a=b", "a=b"),
        ("[1, 2e1]", [1, 20.0]),
        ("{a: 1}", {"a": 1}),
        (".inf", math.inf),
        ("1e-4x", "1e-4x"),
        ("${lr}", 0.0001),
    ],
)
def test_a_word_s_value_is_yaml(root: Path, text: str, value: object) -> None:
    composed = compose("pretrain", ["experiment=first", f"notes={text}"], root=root)
    assert composed["notes"] == value and type(composed["notes"]) is type(value)


def test_a_list_and_a_mapping_are_replaced_and_not_merged(root: Path) -> None:
    words = ["experiment=first", "betas=[0.5]", "paths={runs: here}"]
    composed = compose("pretrain", words, root=root)
    assert composed["betas"] == [0.5]
    assert composed["paths"] == {"runs": "here"}


def test_the_last_word_wins_and_a_component_takes_new_arguments(root: Path) -> None:
    composed = compose("base", ["seed=1", "seed=2", "encoder.dropout=0.5"], root=root)
    assert composed["seed"] == 2
    assert composed["encoder"] == {"name": "layer_gnn", "num_layers": 4, "hidden_dim": 64, "dropout": 0.5}


def test_interpolations_follow_the_words(root: Path) -> None:
    composed = compose("pretrain", ["experiment=first", "seed=5", "trainer.epochs=9"], root=root)
    assert composed["trainer"] == {"epochs": 9, "seed": 5, "name_of_run": "first-9"}


REFUSED = [
    ("pretrian", [], r"no config 'pretrian' in .*; did you mean 'pretrain'\?"),
    ("missing.yaml", [], "no config 'missing.yaml'"),
    ("pretrain", [], r"no value for 'experiment'; write experiment=\.\.\. on the command line\."),
    ("open", [], "no value for 'encoder'; write encoder="),
    ("open", ["encoder.width=3"], "Missing mandatory value: encoder"),
    ("base", ["seed=x\udcff"], "cannot read the value in the word"),
    ("base", ["sead=1"], r"unknown key 'sead'; did you mean 'seed'\?"),
    ("base", ["encodr.num_layers=1"], r"unknown key 'encodr.num_layers'; did you mean 'encoder'\?"),
    ("base", ["paths.run=here"], r"unknown key 'paths.run'; did you mean 'runs'\?"),
    ("base", ["seed.value=1"], "unknown key 'seed.value': got 'seed' = 0, expected a mapping there"),
    ("base", ["encoder=layer_gmn"], r"unknown encoder 'layer_gmn' in .*encoder; did you mean 'layer_gnn'\?"),
    ("base", ["encoder=3"], "unknown encoder '3'"),
    ("base", ["loss=nt_xent"], "unknown key 'loss'; choose from encoder, paths, seed"),
    ("alone", ["..=x"], r"unknown key '\.\.'"),
    ("base", ["seed"], "cannot read the word 'seed': expected key=value"),
    ("base", ["=1"], "cannot read the word '=1': expected key=value"),
    ("base", ["seed=[1"], r"cannot read the value in the word 'seed=\[1': got \[1, expected YAML"),
    ("base", ["seed=${sead}"], "cannot compose the config in .*: got Interpolation key 'sead' not found"),
    ("base", ["seed=2024-01-01"], "cannot compose the config in .*: got Value 'date' is not"),
]


@pytest.mark.parametrize(("name", "words", "sentence"), REFUSED)
def test_what_cannot_be_composed_is_refused_in_one_sentence(
    root: Path, name: str, words: list[str], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        compose(name, words, root=root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: [1", "cannot read the config in .*bad.yaml: got while parsing"),
        ("- 1\n- 2", "cannot read the config in .*bad.yaml: got list, expected a mapping"),
        ("defaults: [absent]", "cannot read the config in .*absent.yaml: got .*No such file"),
        ("defaults: [encoder: absent]", "unknown encoder 'absent'"),
        ("defaults: [encoder: 3]", "unknown encoder '3'"),
        ("defaults: [{encoder: flat, loss: nt_xent}]", "cannot read the defaults in .*bad.yaml: got .*expected `group"),
        ("defaults: [3]", "cannot read the defaults in .*bad.yaml: got 3"),
    ],
)
def test_a_broken_file_is_refused_by_its_name(root: Path, text: str, sentence: str) -> None:
    write(root, "bad", text)
    with pytest.raises(InputError, match=sentence) as caught:
        compose("bad", root=root)
    assert "\n" not in str(caught.value)


def test_a_folder_is_that_of_peace_home_or_of_the_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEACE_HOME", raising=False)
    assert config.folder("configs") == Path(__file__).parents[1] / "configs"
    monkeypatch.setenv("PEACE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"no folder 'configs' in .*; set PEACE_HOME"):
        config.folder("configs")
    (tmp_path / "configs").mkdir()
    assert config.folder("configs") == tmp_path / "configs"


# --- what is a pure function of a config


def test_a_fingerprint_does_not_depend_on_the_order_of_keys() -> None:
    node = {"name": "a", "sizes": [1, 2], "inner": {"x": 1.5, "y": None}}
    turned = {"inner": {"y": None, "x": 1.5}, "sizes": [1, 2], "name": "a"}
    assert fingerprint(node) == fingerprint(turned)
    others = [{**node, "name": "b"}, {**node, "sizes": [2, 1]}, {**node, "more": 0}, {**node, "inner": {"x": 1.5}}]
    assert len({fingerprint(each) for each in [node, *others]}) == 5


def test_a_fingerprint_is_the_same_on_every_machine() -> None:
    # The sha256 of the two bytes `{}`, known from elsewhere.
    assert fingerprint({}) == "44136fa355b3"


def trained() -> dict[str, Any]:
    names = "graph encoder aggregator head regression decoder sampler augmentation loss bank optimizer".split()
    return {
        **{name: {"name": f"some {name}"} for name in names},
        "experiment": "table1",
        "seed": 3,
        "paths": {"runs": "my/runs", "zoos": "my/zoos"},
        "zoo": {"name": "digits", "models": 100, "seed": 3},
        "producer": {"name": "trained"},
        "trainer": {"epochs": 5, "num_workers": 2, "devices": 1, "accelerator": "cpu", "logger": "wandb"},
        "index": {"name": "exact"},
    }


def changed(path: str, value: object) -> dict[str, Any]:
    node = whole = copy.deepcopy(trained())
    *parents, last = path.split(".")
    for parent in parents:
        node = node[parent]
    node[last] = value
    return whole


def test_a_run_s_directory_says_experiment_fingerprint_and_seed() -> None:
    directory = run_directory(trained())
    assert directory.parent.parent == Path("my/runs/table1")
    assert directory.name == "seed3"
    assert len(directory.parent.name) == 12 and set(directory.parent.name) <= set("0123456789abcdef")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("trainer.devices", 4),
        ("trainer.num_nodes", 2),
        ("trainer.accelerator", "gpu"),
        ("tracking", "none"),
        ("trainer.progress", True),
        ("trainer.checkpoint_every", 10),
        ("trainer.log_every", 10),
        ("index", {"name": "other"}),
        ("paths.zoos", "elsewhere"),
    ],
)
def test_what_does_not_decide_the_numbers_does_not_move_the_run(path: str, value: object) -> None:
    assert run_directory(changed(path, value)) == run_directory(trained())


@pytest.mark.parametrize(
    "key",
    """zoo.models zoo.seed sampler.name
    graph.name encoder.num_layers aggregator.name head.dim regression.weight decoder.beta augmentation.noise
    loss.temperature bank.size optimizer.lr trainer.epochs producer.checkpoint""".split(),
)
def test_what_decides_the_numbers_moves_the_run(key: str) -> None:
    moved = run_directory(changed(key, 17))
    assert moved.parent.name != run_directory(trained()).parent.name
    assert (moved.name, moved.parent.parent) == ("seed3", Path("my/runs/table1"))


def test_seeds_of_one_config_are_neighbours() -> None:
    other = changed("seed", 4)
    other["zoo"]["seed"] = 4
    first, second = run_directory(trained()), run_directory(other)
    assert (first.parent, second.name) == (second.parent, "seed4")


def test_a_baseline_s_run_depends_on_its_zoo_and_itself_alone() -> None:
    baseline = changed("producer", {"name": "statistics"})
    bare = {key: baseline[key] for key in ("experiment", "seed", "paths", "zoo", "producer")}
    assert run_directory(bare) == run_directory(baseline)
    assert run_directory({**bare, "producer": {"name": "flat"}}).parent != run_directory(bare).parent
    assert run_directory({**bare, "zoo": {"name": "other"}}).parent != run_directory(bare).parent


def test_the_directories_leave_the_config_as_it_was() -> None:
    given = trained()
    run_directory(given), zoo_directory(given)
    assert given == trained()


def test_a_zoo_s_directory_depends_on_the_whole_zoo_and_on_nothing_else() -> None:
    directory = zoo_directory(trained())
    assert directory == Path("my/zoos/digits") / fingerprint(trained()["zoo"])
    assert zoo_directory(changed("zoo.seed", 4)) != directory
    assert zoo_directory(changed("seed", 4)) == directory
