"""What is said to Slurm, to programs that note it; that Slurm then does it is tested in `tests/slurm`."""

from pathlib import Path

import pytest

from peace.errors import InputError, PeaceError
from peace.sweeps import slurm
from peace.sweeps.spec import Task
from peace.sweeps.state import SweepFolder

TASKS = [Task(1, 0, "peace zoo train demo", ()), Task(2, 1, "peace pretrain seed=0", (1,)),
         Task(3, 1, "peace pretrain seed=1", (1,)), Task(4, 2, "peace table tiny", (1, 2, 3))]  # fmt: skip


class Cluster:
    """Programs on the PATH: `sbatch` numbers its calls and refuses the one that it is told to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.program("scontrol", 'echo "MaxArraySize            = 4"')
        self.program("squeue", f"cat {folder}/queue")
        self.program("scancel", f'echo "$@" >> {folder}/cancelled')
        self.accepts(99)
        (folder / "queue").touch()

    def program(self, name: str, text: str) -> None:
        (self.folder / name).write_text(f"#!/bin/bash\n{text}\n")
        (self.folder / name).chmod(0o755)

    def accepts(self, calls: int) -> None:
        (self.folder / "calls").write_text("")
        self.program(
            "sbatch",
            f'echo "$@" >> {self.folder}/calls; n=$(wc -l < {self.folder}/calls)\n'
            f'[ $n -gt {calls} ] && {{ echo "sbatch: error: too many jobs" >&2; exit 1; }}\necho $n',
        )

    def calls(self) -> list[list[str]]:
        return [line.split() for line in (self.folder / "calls").read_text().splitlines()]

    def cancelled(self) -> str:
        return (self.folder / "cancelled").read_text() if (self.folder / "cancelled").is_file() else ""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return Cluster(tmp_path)


@pytest.fixture
def sweep(tmp_path: Path) -> SweepFolder:
    return SweepFolder(tmp_path / "runs" / "paper" / "tiny" / "sweep")


def option(call: list[str], name: str) -> str | None:
    return next((word.partition("=")[2] for word in call if word.startswith(f"--{name}=")), None)


def test_a_step_is_an_array_after_those_that_it_depends_on(cluster: Cluster, sweep: SweepFolder) -> None:
    assert slurm.submit(sweep, TASKS, TASKS, 7) == ["1", "2", "3"]
    calls = cluster.calls()
    assert [option(call, "job-name") for call in calls] == [
        f"peace-tiny-{step}" for step in ("zoo", "pretrain", "table")
    ]
    assert [option(call, "array") for call in calls] == ["1%7", "2,3%7", "1%7"]
    assert [option(call, "dependency") for call in calls] == [None, "afterany:1", "afterany:1:2"]
    assert [Path(call[-3]).name for call in calls] == ["zoo.sbatch", "pretrain.sbatch", "evaluate.sbatch"]
    # Slurm takes indices up to 3 here: the fourth line is index 1 of an array with an offset of 3.
    assert [call[-1] for call in calls] == ["0", "0", "3"]
    assert [sweep.job(task) for task in TASKS] == ["1_1", "2_2", "2_3", "3_1"]
    assert SweepFolder.load(Path(calls[0][-2]))[1] == TASKS


def test_a_refused_submission_cancels_what_was_sent_and_puts_back_what_was_known(
    cluster: Cluster, sweep: SweepFolder
) -> None:
    for task in TASKS[:3]:
        sweep.write(task, "done", exit_code=0)
    before = [sweep.read(task) for task in TASKS]
    cluster.accepts(2)
    with pytest.raises(PeaceError, match="Slurm refused: sbatch: error: too many jobs"):
        slurm.submit(sweep, TASKS, TASKS, None)
    assert [sweep.read(task) for task in TASKS] == before and [sweep.job(task) for task in TASKS] == [""] * 4
    assert cluster.cancelled() == "1 2\n"


def test_a_resubmission_waits_for_jobs_under_way_and_replaces_those_that_would_be_blocked(
    cluster: Cluster, sweep: SweepFolder
) -> None:
    sweep.write(TASKS[0], "done")
    for task, job, state in (
        (TASKS[1], "50_2", "running"),
        (TASKS[2], "50_3", "failed"),
        (TASKS[3], "51_1", "waiting"),
    ):
        sweep.write(task, state)  # type: ignore[arg-type]
        sweep.submitted(task, job)
    (cluster.folder / "queue").write_text("50_2 RUNNING\n51_1 PENDING\n")
    slurm.submit(sweep, TASKS, [TASKS[2], TASKS[3]], None)
    assert [option(call, "dependency") for call in cluster.calls()] == [None, "afterany:1:50_2"]
    assert cluster.cancelled() == "51_1\n"
    assert sweep.job(TASKS[1]) == "50_2"


def test_the_settings_of_a_cluster_are_options_of_sbatch(
    cluster: Cluster, sweep: SweepFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from peace.config import folder

    home = tmp_path / "home"
    (home / "slurm").mkdir(parents=True)
    for path in folder("slurm").iterdir():
        (home / "slurm" / path.name).write_bytes(path.read_bytes())
    example = (home / "slurm" / "cluster.example.sh").read_text().replace("# export", "export")
    # Scripts of modules read what is not set.
    (home / "slurm" / "cluster.sh").write_text(f'{example}\nif [ "$NEVER_SET" ]; then exit 3; fi\n')
    monkeypatch.setenv("PEACE_HOME", str(home))
    slurm.submit(sweep, TASKS, TASKS[:3], None)
    assert "--mem=64G" in cluster.calls()[0] and "--nodes=2" in cluster.calls()[1]


def test_the_queue_is_asked_only_where_there_is_one(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    (cluster.folder / "queue").write_text("50_2 RUNNING\n51 PENDING\n")
    assert slurm.queue() == {"50_2": "RUNNING", "51": "PENDING"}
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="no `squeue` on this machine, but the sweep was sent to Slurm; ask on"):
        slurm.queue()
