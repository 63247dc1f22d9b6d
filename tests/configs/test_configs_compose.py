"""Every YAML of `configs` composes, names every argument that can be set, and every experiment's commands are sound."""

import inspect
import os
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from peace.aggregators import AGGREGATORS
from peace.augmentations import AUGMENTATIONS
from peace.cli import main
from peace.commands.embed import EmbedConfig
from peace.commands.evaluate import EvaluateConfig
from peace.commands.pretrain import build_augmentations
from peace.commands.properties import PropertiesConfig
from peace.config import compose, folder
from peace.datasets import DATASETS
from peace.datasets.images import names
from peace.encoders import ENCODERS
from peace.experiments import experiments_with
from peace.graph.reading import Reading
from peace.index.kinds import KINDS as INDEXES
from peace.index.metadata import rank_by_metadata
from peace.losses import LOSSES
from peace.losses.bank import BankConfig
from peace.models.baselines import BASELINES
from peace.models.embedder import HeadConfig, RegressionConfig
from peace.registry import Registry, arguments
from peace.sweeps.spec import manifest
from peace.tracking.run import TrackingConfig
from peace.training.fit import TrainerConfig
from peace.training.module import OptimizerConfig
from peace.training.sampler import SamplerConfig
from peace.zoo.recipe import ZooRecipe, shards
from peace.zoo.train import recipe_from

CONFIGS = folder("configs")
DATA = os.environ.get("PEACE_DATA")
REGISTRIES: dict[str, tuple[Registry[Any], tuple[str, ...]]] = {
    "encoder": (ENCODERS, ()),
    "aggregator": (AGGREGATORS, ("input_dim",)),
    "loss": (LOSSES, ()),
    "index": (INDEXES, ()),
}
SECTIONS = {"graph": Reading, "trainer": TrainerConfig, "optimizer": OptimizerConfig, "tracking": TrackingConfig}
GROUPS = [*REGISTRIES, *SECTIONS, "zoo", "augmentation", "producer"]
KINDS = ("encoders", "aggregators", "augmentations", "losses", "baselines", "indexes", "datasets", "zoos", "tasks")
EXPERIMENTS = experiments_with(folder("experiments"), "sweep.yaml")
MANY = 43
"""Commands of an experiment that take more than a few seconds to try."""


def choices(*groups: str) -> list[tuple[str, str]]:
    return [(group, path.stem) for group in groups for path in sorted((CONFIGS / group).glob("*.yaml"))]


def settable(factory: object, *given: str) -> set[str]:
    """The arguments that a config may give."""
    parameters = inspect.signature(factory).parameters.values()  # type: ignore[arg-type]
    return {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)} - set(given)


def node(group: str, choice: str) -> dict[str, Any]:
    """What a choice puts under its group's key."""
    return compose("index", [f"{group}={choice}"])[group]


@pytest.fixture(autouse=True)
def empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, in which nothing lies and nothing may be written."""
    for name in ("PEACE_HOME", "PEACE_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_file_is_a_config_or_a_choice_of_a_known_group() -> None:
    assert sorted(path.name for path in CONFIGS.iterdir() if path.is_dir()) == sorted(GROUPS)
    nested = [path for path in CONFIGS.rglob("*") if path.is_file() and len(path.relative_to(CONFIGS).parts) > 2]
    assert nested == [] and {path.suffix for path in CONFIGS.rglob("*") if path.is_file()} == {".yaml"}


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_every_config_composes(name: str) -> None:
    composed = compose(name, ["zoo=demo"] if name == "zoo" else [])
    assert {"seed", "zoo", "paths"} <= composed.keys()


@pytest.mark.parametrize(("group", "choice"), choices(*GROUPS))
def test_every_choice_composes(group: str, choice: str) -> None:
    whole = compose("index", [f"{group}={choice}"])
    written = yaml.safe_load((CONFIGS / group / f"{choice}.yaml").read_text())
    assert whole[group].keys() == written.keys()


@pytest.mark.parametrize(("group", "choice"), choices(*REGISTRIES))
def test_every_component_is_built_and_lists_what_can_be_set(group: str, choice: str) -> None:
    registry, given = REGISTRIES[group]
    own = node(group, choice)
    assert registry.check(own, *given).keys() == own.keys() - {"name"} == settable(registry.get(own["name"]), *given)
    built = registry.build(own, **dict.fromkeys(given, 24))
    assert type(built) is registry.get(own["name"])


@pytest.mark.parametrize("group", REGISTRIES)
def test_every_component_has_a_choice_of_its_name(group: str) -> None:
    names = REGISTRIES[group][0].names()
    assert [choice for _, choice in choices(group)] == names
    assert [node(group, choice)["name"] for _, choice in choices(group)] == names


@pytest.mark.parametrize(("group", "choice"), choices(*SECTIONS))
def test_every_section_lists_what_can_be_set(group: str, choice: str) -> None:
    own = node(group, choice)
    assert own.keys() == settable(SECTIONS[group]) or own == {"name": "none"}
    assert SECTIONS[group](**arguments(SECTIONS[group], own, group)) is not None


def test_what_stands_in_the_configs_themselves_is_whole() -> None:
    for config, key, factory, given in (
        ("pretrain", "head", HeadConfig, ()),
        ("pretrain", "regression", RegressionConfig, ()),
        ("pretrain", "sampler", SamplerConfig, ()),
        ("pretrain", "bank", BankConfig, ()),
        ("embed", "embed", EmbedConfig, ()),
        ("evaluate", "evaluate", EvaluateConfig, ()),
        ("evaluate", "properties", PropertiesConfig, ()),
    ):
        own = compose(config)[key]
        assert arguments(factory, own, key, *given).keys() == own.keys() == settable(factory, *given), key


@pytest.mark.parametrize(("group", "choice"), choices("augmentation"))
def test_every_augmentation_says_of_each_kind_whether_it_is_on(group: str, choice: str) -> None:
    own = node(group, choice)
    assert sorted(own) == AUGMENTATIONS.names()
    assert len(build_augmentations(own)) == sum(given is not None for given in own.values()) > 0
    for name, given in own.items():
        assert given is None or given.keys() == settable(AUGMENTATIONS.get(name)), name


@pytest.mark.parametrize(("group", "choice"), choices("producer"))
def test_every_producer_is_one(group: str, choice: str) -> None:
    own = node(group, choice)
    assert own["name"] == choice
    if choice == "metadata":
        assert own.keys() - {"name"} == settable(rank_by_metadata, "gallery", "queries", "seed", "zoo")
    elif choice != "trained":
        assert own.keys() - {"name"} == settable(BASELINES.get(choice))
        assert type(BASELINES.build(own)) is BASELINES.get(choice)
    assert {name for _, name in choices("producer")} == {*BASELINES.names(), "metadata", "trained"}


@pytest.mark.parametrize(("group", "choice"), choices("zoo"))
def test_every_recipe_is_one_that_can_be_trained(group: str, choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    own = compose("zoo", [f"zoo={choice}", "seed=3"])["zoo"]
    assert own["name"] == choice and own["seed"] == 3
    assert own.keys() <= settable(ZooRecipe)
    # The first of many drawn points; tens of thousands take seconds.
    own |= {"points": min(own["points"], 60)} if "points" in own else {}
    monkeypatch.setenv("PEACE_DATA", DATA or "")
    if not set(recipe_from(own).datasets) <= set(names()):
        pytest.skip("not all of its image sets are here")
    work = shards(recipe_from(own))
    runs = [run.run_id for shard in work for run in shard.runs]
    assert len(runs) == len(set(runs)) > 0
    assert {run.split for shard in work for run in shard.runs} == {"train", "val", "test"}


@pytest.mark.parametrize(
    "experiment",
    [pytest.param(name, marks=pytest.mark.slow if len(manifest(name, [0])) > MANY else ()) for name in EXPERIMENTS],
)
def test_every_command_of_an_experiment_is_one_that_can_run(
    experiment: str, empty_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [shlex.split(task.line) for task in manifest(experiment, [0])]
    ours = [line[1:] for line in lines if line[0] == "peace"]
    assert ours or lines
    zoos = [line[2] for line in ours if line[:2] == ["zoo", "train"]]
    learnt = {name for zoo in zoos for name in recipe_from(compose("zoo", [f"zoo={zoo}"])["zoo"]).datasets}
    if not learnt <= set(DATASETS.names()):
        if DATA is None:
            pytest.skip("PEACE_DATA is not set: no real image sets here")
        monkeypatch.setenv("PEACE_DATA", DATA)
    for line in ours:
        with_dry_run = ["--dry-run"] if line[0] != "table" else ["--help"]
        assert main([*line, *with_dry_run]) == 0, " ".join(line)
    assert list(empty_place.iterdir()) == []


@pytest.mark.parametrize(
    "kind", ["encoders", "aggregators", "augmentations", "losses", "baselines", "datasets", "zoos", "tasks"]
)
def test_every_list_is_printed(kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", kind]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines and all(lines) and len(lines) == len(set(lines))
    known = {"encoders": ENCODERS.names(), "aggregators": AGGREGATORS.names(), "losses": LOSSES.names(),
             "augmentations": AUGMENTATIONS.names(), "zoos": [choice for _, choice in choices("zoo")]}  # fmt: skip
    assert lines == known.get(kind, lines)


def test_the_tasks_that_are_held_out_are_marked(capsys: pytest.CaptureFixture[str]) -> None:
    main(["list", "tasks"])
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("demo\t")]
    recipe = compose("zoo", ["zoo=demo"])["zoo"]
    assert len(lines) == recipe["subset_count"]
    assert [line.endswith("(held out)") for line in lines].count(True) == recipe["held_out"]
