"""Sweeps of the small experiment that are killed, and gone on with."""

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from commands_home import EXPERIMENT, Home, Peace

from peace.sweeps.spec import Task, manifest
from peace.sweeps.state import SweepFolder


@contextmanager
def killer(tasks: list[Task], moment: float) -> Iterator[list[str]]:
    """Kills, with SIGKILL and that many seconds after the first command began, one of those that run then."""
    folder, killed, over = SweepFolder(Path("runs", EXPERIMENT, "sweep").resolve()), [], threading.Event()

    def running() -> list[Task]:
        return [task for task in tasks if folder.read(task).get("state") == "running" and folder.runs(task)]

    def kill() -> None:
        began = None
        while not over.wait(0.005):
            found = running()
            began = began or (time.monotonic() if found else None)
            pid = folder.read(found[0]).get("pid") if found else None
            if pid and time.monotonic() > (began or 0) + moment:
                os.kill(pid, signal.SIGKILL)
                killed.append(found[0].verb)
                return

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


@pytest.mark.slow
@pytest.mark.parametrize("kills", [3, 10])
def test_a_sweep_killed_at_random_moments_ends_with_the_same_table(
    kills: int, copied: Home, finished_home: Home, peace: Peace
) -> None:
    for made in ("runs", "zoos", "results"):
        shutil.rmtree(copied.folder / made)
    tasks, chance, words, all_killed = manifest(EXPERIMENT), random.Random(kills), ["-j", "2"], []
    while len(all_killed) < kills:
        with killer(tasks, chance.uniform(0, 2)) as killed:
            finished = peace("sweep", EXPERIMENT, "--local", *words)
        assert finished.code == (1 if killed else 0), finished.err
        if killed:
            assert "ended with exit code -9" in finished.err
            assert peace("sweep", EXPERIMENT, "--status").out.count("  failed") == 1
        all_killed += killed
        # Once all is done there is nothing left to kill, and it begins again.
        words = ["-j", "2", *(["--resubmit", "failed"] if killed else [])]
    assert peace("sweep", EXPERIMENT, "--local", "-j", "2", "--resubmit", "failed").code == 0
    assert (
        peace("sweep", EXPERIMENT, "--local", "--resubmit", "missing").out == "nothing to run: no command is missing\n"
    )
    for ending in ("md", "tex", "csv"):
        table = Path("results", "tables", f"{EXPERIMENT}.{ending}")
        assert (copied.folder / table).read_bytes() == (finished_home.folder / table).read_bytes(), all_killed


def test_what_is_under_way_is_not_started_twice(copied: Home, peace: Peace) -> None:
    tasks = manifest(EXPERIMENT)
    folder = SweepFolder(copied.folder / "runs" / EXPERIMENT / "sweep")
    with folder.running(tasks[3]):
        assert peace("sweep", EXPERIMENT, "--status").out.splitlines()[4].split()[:2] == ["4", "running"]
        finished = peace("sweep", EXPERIMENT, "--local")
        assert finished.code == 2 and "1 of the commands are under way already" in finished.err
        assert peace("sweep", EXPERIMENT, "--local", "--resubmit", "missing").out.startswith("nothing to run")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--local", "--submit"], "--local, --submit and --status exclude each other"),
        (["--status", "--resubmit", "failed"], "--local, --submit and --status exclude each other"),
        (["--local", "-j", "0"], "not a number of commands in -j or --throttle: expected 1 or more"),
        (["--submit", "--throttle", "0"], "not a number of commands"),
        (["--resubmit", "all"], "invalid choice: 'all'"),
    ],
)
def test_what_does_not_go_together_is_refused(words: list[str], sentence: str, home: Home, peace: Peace) -> None:
    finished = peace("sweep", EXPERIMENT, *words)
    assert finished.code == 2 and sentence in finished.err and len(finished.err.splitlines()) == 1


def test_without_slurm_a_submission_is_refused(home: Home, peace: Peace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    finished = peace("sweep", EXPERIMENT, "--submit")
    assert finished.code == 2 and "no `sbatch` on this machine; log in to the cluster" in finished.err
