"""Experiments at any depth: their names, where they are found, and their `config.yaml` over a verb's config."""

import shutil
from pathlib import Path

import pytest
import yaml

from peace.cli import main
from peace.config import compose_for, folder, run_directory
from peace.errors import InputError
from peace.experiments import experiment_name, experiments_with, find_experiment

CONFIG = """
encoder: layer_gnn
encoder.hidden_dim: 48
trainer: {max_steps: 7}
sampler.batch_size: 32
embed: {checkpoints: all}
index: hnsw
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The experiments of a home that is not the current folder."""
    shutil.copytree(folder("configs"), tmp_path / "home" / "configs")
    for name in ("flat", "paper/table1", "paper/deeper/figure2"):
        place = tmp_path / "home" / "experiments" / name
        place.mkdir(parents=True)
        (place / "table.yaml").touch()
    (tmp_path / "home" / "experiments" / "paper" / "table1" / "config.yaml").write_text(CONFIG)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("PEACE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    return tmp_path / "home" / "experiments"


def configured(root: Path, text: str) -> None:
    (root / "paper" / "table1" / "config.yaml").write_text(text)


@pytest.mark.parametrize("name", ["demo", "paper/table1", "a/b/c", "a.b/c,d=e+f@g-h_i"])
def test_a_name_is_plain_folders_joined_by_slashes(name: str) -> None:
    assert experiment_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "/", "/a", "a/", "a//b", "..", "a/../b", "a/..", ".a", "a/.b", "a b", "a\\b", "a\n", "é", 3, None]
)
def test_what_leads_elsewhere_is_no_name(name: object) -> None:
    with pytest.raises(InputError, match=r"not the name of an experiment: got .* folders joined by /"):
        experiment_name(name)


def test_experiments_are_found_at_every_depth(root: Path) -> None:
    (root / "table.yaml").touch()  # belongs to none
    assert experiments_with(root, "table.yaml") == ["flat", "paper/deeper/figure2", "paper/table1"]
    assert experiments_with(root, "config.yaml") == ["paper/table1"]


def test_an_experiment_is_named_or_a_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = ("paper/table1", root / "paper" / "table1" / "config.yaml")
    for given in ("paper/table1", "paper/table1/", "experiments/paper/table1", str(root / "paper" / "table1")):
        assert find_experiment(given, root) == expected, given
    monkeypatch.chdir(root / "paper")
    assert find_experiment("table1", root) == find_experiment("../paper/table1", root) == expected
    assert find_experiment("paper/table2", root) is None and find_experiment("../configs", root) is None


def test_a_folder_elsewhere_is_an_experiment_too(root: Path, tmp_path: Path) -> None:
    for place, name in (("mine", "mine"), ("other/experiments/paper/table9", "paper/table9")):
        (tmp_path / "elsewhere" / place).mkdir(parents=True)
        (tmp_path / "elsewhere" / place / "config.yaml").touch()
        found = find_experiment(place, root)
        assert found is not None and found[0] == name


def test_its_config_lies_over_the_verb_s(root: Path) -> None:
    trained, embedded = compose_for("pretrain", ["paper/table1"]), compose_for("embed", ["paper/table1"])
    by_hand = compose_for("embed", ["encoder=layer_gnn", "encoder.hidden_dim=48", "trainer.max_steps=7",
                                    "sampler.batch_size=32", "embed.checkpoints=all",
                                    "experiment=paper/table1"])  # fmt: skip
    assert embedded == by_hand
    assert embedded["embed"]["checkpoints"] == "all" and embedded["embed"]["batch_size"] == 256
    # What another verb's config has is left to that verb.
    assert trained == {key: value for key, value in by_hand.items() if key != "embed"}
    assert compose_for("index", ["paper/table1"])["index"]["name"] == "hnsw"
    assert run_directory(trained) == run_directory(embedded)
    assert run_directory(trained).parts[:3] == ("runs", "paper", "table1")


def test_words_come_last(root: Path) -> None:
    words = ["paper/table1", "trainer.max_steps=9", "encoder.num_layers=2", "experiment=other"]
    composed = compose_for("pretrain", words)
    assert (composed["trainer"]["max_steps"], composed["experiment"]) == (9, "other")
    assert composed["encoder"] == {**compose_for("pretrain", ["encoder=layer_gnn"])["encoder"],
                                   "hidden_dim": 48, "num_layers": 2}  # fmt: skip
    # What the file sets for one encoder is not meant for another.
    swapped = compose_for("pretrain", ["paper/table1", "encoder=raw"])
    assert swapped["encoder"] == compose_for("pretrain", ["encoder=raw"])["encoder"]
    configured(root, "experiment: named")
    assert compose_for("pretrain", ["paper/table1"])["experiment"] == "named"


def test_the_command_line_takes_an_experiment(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", "seed=2", "experiments/paper/table1", "--dry-run"]) == 0
    printed, _, where = capsys.readouterr().out.partition("# run directory: ")
    assert yaml.safe_load(printed) == compose_for("pretrain", ["paper/table1", "seed=2"])
    assert where.startswith("runs/paper/table1/") and where.splitlines()[0].endswith("/seed2")
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "text", "sentence"),
    [
        (["paper/table2"], CONFIG, "no config 'paper/table2' in .*; did you mean 'paper/table1'?"),
        (["../home"], CONFIG, r"no config\.yaml in .*home; name an experiment that has one"),
        (["flat"], CONFIG, r"no config\.yaml in .*experiments/flat; name an experiment that has one"),
        (["../configs"], CONFIG, r"no config '\.\./configs'"),
        (["paper/table1", "seed"], CONFIG, "cannot read the word 'seed': expected key=value"),
        (["paper/table1"], "sead: 1", "unknown key 'sead'; did you mean 'seed'?"),
        (["paper/table1"], "1: 1", "unknown key '1'"),
        (["paper/table1"], "trainer: {max_step: 1}", "unknown key 'trainer.max_step'; did you mean 'max_steps'?"),
        (["paper/table1"], "encoder: layer_gmn", "unknown encoder 'layer_gmn' in .*; did you mean 'layer_gnn'?"),
        (["paper/table1"], "encoder: null", "'encoder' is a mapping; set its keys one by one"),
        (["paper/table1"], "defaults: [pretrain]", "unknown key 'defaults'"),
        (["paper/table1"], "- 1", r"cannot read the config in .*config\.yaml: got list, expected a mapping"),
        (["paper/table1"], "seed: [", r"cannot read the config in .*config\.yaml: got while parsing"),
    ],
)
def test_what_names_no_experiment_or_misspells_a_key_is_refused(
    root: Path, words: list[str], text: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    configured(root, text)
    with pytest.raises(InputError, match=sentence) as caught:
        compose_for("pretrain", words)
    assert "\n" not in str(caught.value)
    assert main(["pretrain", *words]) == 2 and capsys.readouterr().err == f"peace: {caught.value}\n"


def test_a_folder_s_name_that_cannot_be_an_experiment_s_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "my own").mkdir()
    (tmp_path / "elsewhere" / "my own" / "config.yaml").touch()
    with pytest.raises(InputError, match="not the name of an experiment: got 'my own'"):
        compose_for("pretrain", ["my own"])
