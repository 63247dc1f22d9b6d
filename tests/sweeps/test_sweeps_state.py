import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from peace.errors import InputError, PeaceError
from peace.sweeps.spec import Task
from peace.sweeps.state import SweepFolder, unmet
from peace.sweeps.status import selected, statuses, table

TASKS = [Task(1, 0, "peace zoo train demo", ()), Task(2, 1, "peace embed seed=0", (1,)),
         Task(3, 1, "peace embed seed=1", (1,)), Task(4, 2, "peace table tiny", (1, 2, 3))]  # fmt: skip

_HOLD = """
import sys, time
from pathlib import Path
from peace.sweeps.spec import Task
from peace.sweeps.state import SweepFolder
with SweepFolder(Path(sys.argv[1])).running(Task(1, 0, "peace zoo train demo", ())):
    print("running", flush=True)
    time.sleep(60)
"""


def states(folder: SweepFolder, queue: dict[str, str] | None = None) -> list[str]:
    return [status.state for status in statuses(folder, TASKS, queue or {})]


def test_a_manifest_is_read_as_it_was_saved(tmp_path: Path) -> None:
    path = SweepFolder(tmp_path).save(TASKS)
    folder, found = SweepFolder.load(path)
    assert found == TASKS and folder.path == tmp_path
    assert SweepFolder(tmp_path).save(TASKS) == path != SweepFolder(tmp_path).save(TASKS[:2])


@pytest.mark.parametrize("content", ["", "[1]", '[{"number": 1}]', "{"])
def test_a_damaged_manifest_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(InputError, match="cannot read the manifest"):
        if SweepFolder.load(tmp_path / "m.json")[1] == []:
            pytest.fail("an empty file is no manifest")


def test_a_task_that_nothing_is_known_of_is_missing(tmp_path: Path) -> None:
    assert states(SweepFolder(tmp_path)) == ["missing"] * 4


def test_states_are_seen_as_they_are(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    folder.write(TASKS[0], "done", exit_code=0)
    folder.write(TASKS[1], "failed", exit_code=2)
    folder.write(TASKS[2], "waiting")
    folder.write(TASKS[3], "blocked")
    assert states(folder) == ["done", "failed", "missing", "blocked"]
    found = statuses(folder, TASKS, {})
    assert [task.number for task in selected(found, "failed")] == [2, 4]
    assert [task.number for task in selected(found, "missing")] == [2, 3, 4]
    assert [task.number for task in unmet(folder, TASKS[3], {task.number: task for task in TASKS})] == [2, 3]
    assert json.loads((tmp_path / "tasks" / f"{TASKS[1].key}.json").read_text())["line"] == TASKS[1].line


def test_a_job_in_the_queue_is_pending_or_running_and_one_that_left_it_failed(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    for task in TASKS[:3]:
        folder.write(task, "waiting")
        folder.submitted(task, f"7_{task.number}")
    folder.write(TASKS[0], "running")
    assert states(folder, {"7_1": "RUNNING", "7_2": "PENDING"})[:3] == ["running", "pending", "failed"]
    assert states(folder, {})[:3] == ["failed"] * 3
    folder.write(TASKS[1], "failed")
    assert states(folder, {"7_2": "PENDING"})[1] == "pending", "put back into the queue by somebody else"
    assert states(folder, {"7_2": "COMPLETING"})[1] == "failed"


def test_another_machine_s_process_is_not_taken_for_dead(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    folder.write(TASKS[0], "running", host="elsewhere", pid=1)
    assert states(folder)[0] == "running"


def test_what_comes_after_a_command_that_runs_again_runs_again_too(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    for task in TASKS:
        folder.write(task, "done")
    folder.write(TASKS[2], "waiting")
    # The table was made, but of fewer embeddings.
    assert [task.number for task in selected(statuses(folder, TASKS, {}), "missing")] == [3, 4]
    folder.write(TASKS[2], "failed")
    assert [task.number for task in selected(statuses(folder, TASKS, {}), "failed")] == [3, 4]


def test_what_was_changed_in_vain_is_put_back(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    folder.write(TASKS[0], "done", exit_code=0)
    before = folder.read(TASKS[0])
    for content, job in ((before, "5_1"), (before, ""), ({}, "")):
        folder.write(TASKS[0], "waiting")
        folder.submitted(TASKS[0], "9_1")
        folder.restore(TASKS[0], content, job)
        assert (folder.read(TASKS[0]), folder.job(TASKS[0])) == (content, job)


def test_a_process_holds_its_task_until_it_ends_however_that_is(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "running\n"
    assert states(folder)[0] == "running" and folder.read(TASKS[0])["pid"] == process.pid
    with pytest.raises(PeaceError, match="runs already"), folder.running(TASKS[0]):
        pytest.fail("two processes run one task")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert states(folder)[0] == "failed"
    with folder.running(TASKS[0]):
        assert folder.read(TASKS[0])["pid"] == os.getpid()


def test_a_damaged_state_is_refused(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    folder.write(TASKS[0], "done")
    (tmp_path / "tasks" / f"{TASKS[0].key}.json").write_text("{")
    with pytest.raises(InputError, match="cannot read a task's state"):
        folder.read(TASKS[0])


def test_the_table_shows_state_job_log_and_command(tmp_path: Path) -> None:
    folder = SweepFolder(tmp_path)
    folder.write(TASKS[0], "done", log=str(folder.log(TASKS[0])))
    folder.submitted(TASKS[0], "12_1")
    folder.submitted(TASKS[2], "12_3")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "slurm-12_3.log").write_text("module: not found")
    lines = table(folder, statuses(folder, TASKS, {})).splitlines()
    assert lines[0].split() == ["#", "state", "job", "log", "command"]
    assert lines[1].split(maxsplit=4) == ["1", "done", "12_1", str(folder.log(TASKS[0])), TASKS[0].line]
    assert lines[2].split(maxsplit=4) == ["2", "missing", "-", "-", TASKS[1].line]
    assert lines[3].split(maxsplit=4)[:4] == ["3", "missing", "12_3", str(tmp_path / "logs" / "slurm-12_3.log")]
    assert lines[-1] == "4 commands: 1 done, 3 missing"
