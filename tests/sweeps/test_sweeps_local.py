import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from peace.errors import PeaceError
from peace.interruption import Interrupted
from peace.sweeps.local import LocalSweep
from peace.sweeps.spec import Task
from peace.sweeps.state import SweepFolder
from peace.sweeps.status import statuses


def no_peace(arguments: Sequence[str]) -> int:
    raise AssertionError(arguments)


def sleeper(arguments: Sequence[str]) -> int:
    """Stands for a command that saves and stops when it is asked to."""
    from peace.interruption import stop_requests

    with stop_requests() as stop:
        Path(f"started-{arguments[0]}").touch()
        while not stop.asked:
            time.sleep(0.02)
    return Interrupted.exit_code


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SweepFolder:
    monkeypatch.chdir(tmp_path)
    return SweepFolder(tmp_path / "sweep")


def states(folder: SweepFolder, tasks: list[Task]) -> list[str]:
    return [status.state for status in statuses(folder, tasks, {})]


def test_commands_run_after_those_that_they_depend_on(folder: SweepFolder) -> None:
    tasks = [Task(1, 0, "sh -c 'sleep 0.4; echo one >> order'", ()), Task(2, 0, "sh -c 'echo two >> order'", ()),
             Task(3, 1, "sh -c 'echo three >> order'", (1, 2))]  # fmt: skip
    LocalSweep(folder, tasks, 2, no_peace).run(tasks)
    assert Path("order").read_text().split() == ["two", "one", "three"]
    assert states(folder, tasks) == ["done"] * 3


@pytest.mark.parametrize("jobs", [1, 3])
def test_a_failure_stops_only_what_depends_on_it(jobs: int, folder: SweepFolder) -> None:
    tasks = [Task(1, 0, "false", ()), Task(2, 0, "true", ()), Task(3, 1, "touch after_false", (1,)),
             Task(4, 1, "touch after_true", (2,)), Task(5, 2, "touch after_all", (1, 2, 3, 4))]  # fmt: skip
    with pytest.raises(PeaceError, match=r"1 of 5 commands failed, 2 that depend .* exit code 1: false") as caught:
        LocalSweep(folder, tasks, jobs, no_peace).run(tasks)
    assert caught.value.exit_code == 1
    assert states(folder, tasks) == ["failed", "done", "blocked", "done", "blocked"]
    assert [Path(f"after_{name}").exists() for name in ("false", "true", "all")] == [False, True, False]


def test_only_what_is_selected_runs_and_only_if_the_rest_is_done(folder: SweepFolder) -> None:
    tasks = [Task(1, 0, "touch first", ()), Task(2, 1, "touch second", (1,))]
    with pytest.raises(PeaceError, match="1 of 1 commands were not run, because what they depend on is not done"):
        LocalSweep(folder, tasks, 1, no_peace).run(tasks[1:])
    assert states(folder, tasks) == ["missing", "blocked"] and not Path("second").exists()
    LocalSweep(folder, tasks, 1, no_peace).run(tasks)
    assert states(folder, tasks) == ["done", "done"] and Path("second").exists()


def test_output_goes_to_logs_where_several_run_at_a_time(folder: SweepFolder) -> None:
    tasks = [Task(1, 0, "sh -c 'echo said; echo complained >&2'", ())]
    LocalSweep(folder, tasks, 2, no_peace).run(tasks)
    LocalSweep(folder, tasks, 2, no_peace).run(tasks)
    assert folder.log(tasks[0]).read_text() == "said\ncomplained\n" * 2


def test_a_killed_command_has_failed(folder: SweepFolder) -> None:
    tasks = [Task(1, 0, "peace sleep 1", ())]

    def kill() -> None:
        while "pid" not in folder.read(tasks[0]) or not Path("started-sleep").exists():
            time.sleep(0.02)
        os.kill(folder.read(tasks[0])["pid"], signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(PeaceError, match="ended with exit code -9: peace sleep 1"):
        LocalSweep(folder, tasks, 2, sleeper).run(tasks)
    killer.join()
    assert states(folder, tasks) == ["failed"]


@contextmanager
def interrupted_after(*files: str) -> Iterator[None]:
    """Presses Ctrl-C once these files exist."""

    def interrupt() -> None:
        while not all(Path(file).exists() for file in files):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    presser = threading.Thread(target=interrupt)
    presser.start()
    yield
    presser.join()


def test_a_stop_reaches_every_command_once_and_the_rest_is_missing(folder: SweepFolder) -> None:
    tasks = [Task(1, 0, "peace a", ()), Task(2, 0, "peace b", ()), Task(3, 1, "touch later", (1, 2))]

    with interrupted_after("started-a", "started-b"), pytest.raises(Interrupted, match="3 of 3 commands left"):
        LocalSweep(folder, tasks, 2, sleeper).run(tasks)
    assert states(folder, tasks) == ["missing"] * 3 and not Path("later").exists()


def test_what_has_nothing_to_save_ends_at_a_stop_with_all_that_it_started(folder: SweepFolder) -> None:
    tasks = [Task(1, 0, "sh -c 'touch begun; sleep 3; touch orphan'", ()), Task(2, 1, "true", (1,))]

    with interrupted_after("begun"), pytest.raises(Interrupted, match="2 of 2 commands left"):
        LocalSweep(folder, tasks, 2, no_peace).run(tasks)
    time.sleep(3.2)
    assert states(folder, tasks) == ["missing"] * 2 and not Path("orphan").exists()


def test_a_task_in_other_hands_keeps_its_state(folder: SweepFolder) -> None:
    tasks = [Task(1, 0, "touch twice", ())]
    with folder.running(tasks[0]):
        with pytest.raises(PeaceError, match="1 of 1 commands failed"):
            LocalSweep(folder, tasks, 2, no_peace).run(tasks)
    assert not Path("twice").exists() and "runs already" in folder.log(tasks[0]).read_text()


@pytest.mark.parametrize("moment", [0.5, *(pytest.param(m, marks=pytest.mark.slow) for m in (0.05, 1.5))])
def test_a_sweep_may_be_stopped_while_it_starts(moment: float, tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from peace.sweeps.local import LocalSweep; from peace.sweeps.spec import Task\n"
        "from peace.sweeps.state import SweepFolder; from peace.interruption import Interrupted\n"
        "if __name__ == '__main__':\n"
        "    print('ready', flush=True)\n"
        "    tasks = [Task(1, 0, 'sleep 20', ())]\n"
        "    try:\n"
        "        LocalSweep(SweepFolder(Path('sweep')), tasks, 2, print, ['torch']).run(tasks)\n"
        "    except Interrupted as stop:\n"
        "        print(stop)\n"
    )
    (tmp_path / "one.py").write_text(code)
    command = [sys.executable, "one.py"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(moment)
    # As a terminal does: to every process of the group.
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert "stopped with 1 of 1 commands left" in out and "Traceback" not in err, err


def test_a_stop_that_comes_before_a_command_has_its_group_is_the_sweep_s(tmp_path: Path) -> None:
    code = (
        "import os, signal; from pathlib import Path; from peace.sweeps import local\n"
        "from peace.sweeps.spec import Task; from peace.sweeps.state import SweepFolder\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "around = (Path.cwd(), dict(os.environ))\n"
        "local._child(SweepFolder(Path('sweep')), Task(1, 0, 'touch done', ()), None, print, around)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    assert (tmp_path / "done").exists()


def test_a_sweep_that_is_killed_itself_leaves_what_can_be_told(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path; from peace.sweeps.local import LocalSweep; from peace.sweeps.spec import Task\n"
        "from peace.sweeps.state import SweepFolder; \n"
        "if __name__ == '__main__':\n"
        "    tasks = [Task(1, 0, 'true', ()), Task(2, 1, 'sleep 2', (1,)), Task(3, 2, 'touch end', (2,))]\n"
        "    LocalSweep(SweepFolder(Path('sweep')), tasks, 1, print).run(tasks)\n"
    )
    (tmp_path / "sweep_of_three.py").write_text(code)
    process = subprocess.Popen([sys.executable, "sweep_of_three.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while "sleep" not in process.stdout.readline():
        pass
    process.kill()
    process.wait()
    folder = SweepFolder(tmp_path / "sweep")
    tasks = [Task(1, 0, "true", ()), Task(2, 1, "sleep 2", (1,)), Task(3, 2, "touch end", (2,))]
    time.sleep(3)
    assert states(folder, tasks) == ["done", "done", "missing"]
