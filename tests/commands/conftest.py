"""One small experiment, run once from the command line; tests that write get a copy of it."""

import os
import shutil
from pathlib import Path

import pytest
import torch
from commands_home import EXPERIMENT, SWEEP, TABLE, Finished, Home, Peace

from peace.cli import main
from peace.config import folder


@pytest.fixture(scope="session")
def finished_home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = tmp_path_factory.mktemp("home")
    shutil.copytree(folder("configs"), home / "configs")
    experiment = home / "experiments" / EXPERIMENT
    experiment.mkdir(parents=True)
    (experiment / "sweep.yaml").write_text(SWEEP)
    (experiment / "table.yaml").write_text(TABLE)
    with pytest.MonkeyPatch.context() as patch:
        _enter(home, patch)
        assert main(["sweep", EXPERIMENT, "--local", "-j", "2"]) == 0
    return Home(home)


@pytest.fixture
def home(finished_home: Home, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The experiment, for tests that write nothing into it."""
    return _enter(finished_home.folder, monkeypatch)


@pytest.fixture
def copied(finished_home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A copy of the experiment, for tests that change or damage something."""
    return _enter(Path(shutil.copytree(finished_home.folder, tmp_path / "home")), monkeypatch)


def _enter(home: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    # One number of threads for all: it is part of what a table says of its origin.
    torch.set_num_threads(1)
    monkeypatch.setenv("PEACE_HOME", str(home))
    monkeypatch.delenv("PEACE_DATA", raising=False)
    monkeypatch.chdir(home)
    return Home(home)


@pytest.fixture
def peace(capsys: pytest.CaptureFixture[str]) -> Peace:
    """Runs a command in this process."""

    def run(*arguments: str | os.PathLike[str]) -> Finished:
        capsys.readouterr()
        return Finished(main([str(argument) for argument in arguments]), *capsys.readouterr())

    return run
