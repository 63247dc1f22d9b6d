"""One small experiment, run once from the command line with tracking on, without a key and without a network."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tracked_log import Log, logs
from tracking_home import EXPERIMENT, HOME, TABLE, WORDS, ZOO, entered

from peace.cli import main
from peace.config import folder


@pytest.fixture(scope="session")
def tracked_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tracked") / HOME
    shutil.copytree(folder("configs"), home / "configs")
    (home / "experiments" / EXPERIMENT).mkdir(parents=True)
    (home / "experiments" / EXPERIMENT / "table.yaml").write_text(TABLE)
    with entered(home):
        for line in (
            ["zoo", "train", "demo", *ZOO],
            ["pretrain", *WORDS],
            ["embed", *WORDS],
            ["index", *WORDS],
            ["evaluate", *WORDS, "evaluate.points=[0]"],
            ["embed", *WORDS, "producer=metadata"],
            ["evaluate", *WORDS, "producer=metadata"],
            ["table", EXPERIMENT],
        ):
            assert main(line) == 0, line
    return home


@pytest.fixture(scope="session")
def told(tracked_home: Path) -> dict[str, Log]:
    """What was told by each command; of the metadata baseline under the command and its name."""
    found = {}
    for log in logs(tracked_home):
        command = log.run.job_type
        found[f"{command} metadata" if "metadata" in log.run.tags else command] = log
    return found


@pytest.fixture
def home(tracked_home: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the experiment, for tests that run more commands."""
    copy = Path(shutil.copytree(tracked_home, tmp_path / HOME))
    for folder_of_runs in copy.rglob("wandb"):
        shutil.rmtree(folder_of_runs)
    with entered(copy):
        yield copy


@pytest.fixture
def peace(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process and returns its exit code, its output and its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        return main(list(arguments)), *capsys.readouterr()

    return run
