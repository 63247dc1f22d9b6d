"""What a `wandb sweep`'s agent passes is what a person would type, and its objective is what a run tells."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from tracked_log import Log, logs
from tracking_home import WORDS
from wandb.apis.public.sweeps import _validate_config_and_fill_distribution
from wandb.sdk.launch.sweeps.utils import create_sweep_command, create_sweep_command_args, load_sweep_config

from peace.cli import main
from peace.config import compose, folder, run_directory

Peace = Callable[..., tuple[int, str, str]]

SWEEPS = sorted(folder("experiments").glob("*/wandb_*.yaml"))


def values(parameter: dict[str, Any]) -> list[Any]:
    """What an agent may be given for a parameter: all its values, or both ends of its range, one in many digits."""
    return parameter.get("values") or [parameter["min"] + 1e-9 / 3, parameter["max"]]


def lines(sweep: dict[str, Any]) -> Iterator[list[str]]:
    """The commands that an agent would run, expanded by wandb's own functions."""
    names = list(sweep["parameters"])
    for point in itertools.product(*map(values, sweep["parameters"].values())):
        arguments = {name: {"value": value} for name, value in zip(names, point, strict=True)}
        macros = create_sweep_command_args({"args": arguments})
        line: list[str] = []
        for text in create_sweep_command(list(sweep["command"])):
            line += macros[text[2:-1]] if text.startswith("${") else [text]
        yield line


def test_there_is_a_grid_and_a_bayesian_one() -> None:
    assert {load_sweep_config(str(path))["method"] for path in SWEEPS} == {"grid", "bayes"}


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_every_command_of_an_agent_is_one_that_a_person_could_type(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep = load_sweep_config(str(path))
    assert _validate_config_and_fill_distribution(sweep) == sweep
    monkeypatch.delenv("PEACE_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    found = list(lines(sweep))
    runs = set()
    for program, verb, *words in found:
        assert (program, verb) == ("peace", "pretrain") and not any("$" in word for word in words)
        config = compose("pretrain", words)
        for name in sweep["parameters"]:
            value = config
            for key in name.split("."):
                value = value[key]
            assert str(value) == next(word for word in words if word.startswith(f"{name}=")).partition("=")[2]
        runs.add(run_directory(config))
    assert len(runs) == len(found) > 10, "each try has a run directory of its own"
    for line in (found[0], found[-1]):
        assert main([*line[1:], "--dry-run"]) == 0, line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_the_objective_is_a_gauge_on_val_that_a_run_tells(path: Path, told: dict[str, Log]) -> None:
    metric = load_sweep_config(str(path))["metric"]
    assert metric["goal"] == "maximize" and metric["name"].startswith("val/")
    assert [0 <= row[metric["name"]] <= 1 for row in told["pretrain"].history if metric["name"] in row] == [True, True]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What an agent of `wandb sweep` sets for a command; wandb reads it as it is set up, once in a process."""
    for name, value in (("SWEEP_ID", "sweep123"), ("RUN_ID", "agentsrun"), ("PROJECT", "other")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    wandb.teardown()
    yield
    wandb.teardown()


def test_an_agent_s_run_is_its_own_also_where_the_embedder_was_trained_already(
    home: Path, peace: Peace, agent: None
) -> None:
    code, printed, said = peace("pretrain", *WORDS)
    assert code == 0, said
    (log,) = logs(home)
    assert (log.run.run_id, log.run.sweep_id, log.run.project) == ("agentsrun", "sweep123", "other")
    assert "was trained already" in printed and log.made["model"].name.startswith("embedder-tiny-")
    (row,) = [row for row in log.history if "val/knn" in row]
    assert 0 <= row["val/knn"] <= 1 and row["val/effective_rank"] >= 1
