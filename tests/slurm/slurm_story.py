"""A sweep through everything that a cluster does to it, and the same sweep undisturbed on this machine."""

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from slurm_home import EXPERIMENT, Home, Line, finished

_PRETRAIN = "peace pretrain experiment=tiny row.method=peace seed="
_PRODUCER = Path("configs") / "producer" / "statistics.yaml"


@dataclass(frozen=True)
class Story:
    """What was seen of the two sweeps.

    Attributes:
        home: Where Slurm ran the sweep.
        reference: Where `peace sweep --local -j 2` ran it, its encoders embedding in one piece.
        submitted: What Slurm said of the jobs when they were submitted.
        underway: `--status` while the trainings ran.
        stopped_at: The step that the checkpoint of each seed held when its job was back in the queue.
        ended: What Slurm said of the jobs when the queue was empty for the first time.
        failed: `--status` then.
        resubmitted: What `--resubmit failed` printed after the repair.
        repaired: `--status` when the queue was empty again.
    """

    home: Home
    reference: Home
    submitted: str
    underway: list[Line]
    stopped_at: dict[int, int]
    ended: str
    failed: list[Line]
    resubmitted: str
    repaired: list[Line]


def tell(folder: Path, environment: dict[str, str]) -> Story:
    """Runs both sweeps, disturbs the one in Slurm, repairs it, and returns what was seen.

    Seed 0 loses its processor to `scontrol requeue`, seed 1 to its time limit, both in the middle of an epoch; the
    statistics of both seeds fail, because their configuration has a typing error.
    """
    home, reference = Home.make(folder / "slurm", 4, environment), Home.make(folder / "reference", 1)
    (home.path / _PRODUCER).write_text("name: statistic\n")
    home.peace("sweep", EXPERIMENT, "--submit", "--throttle", "3")
    submitted = home.slurm("scontrol", "show", "job")
    processes = _freeze(home, (0, 1))
    undisturbed = reference.start("sweep", EXPERIMENT, "--local", "-j", "2")
    underway = home.status()
    jobs = {seed: home.state(f"{_PRETRAIN}{seed} ")["job"] for seed in processes}
    stopped_at = {0: _requeue(home, jobs[0], 0), 1: _reach_the_time_limit(home, jobs[1], 1, processes[1])}
    home.drain()
    ended, failed = home.slurm("scontrol", "show", "job"), home.status()
    (home.path / _PRODUCER).write_text("name: statistics\n")
    resubmitted = home.peace("sweep", EXPERIMENT, "--resubmit", "failed")
    home.drain()
    finished(undisturbed)
    return Story(home, reference, submitted, underway, stopped_at, ended, failed, resubmitted, home.status())


def _freeze(home: Home, seeds: Sequence[int]) -> dict[int, int]:
    """Halts each training in its first epoch, so that what follows need not hurry, and returns its process."""
    frozen: dict[int, int] = {}

    def all_frozen() -> bool:
        assert home.queued(), f"the sweep ended before its trainings began\n{home.logs()}"
        for seed in set(seeds) - set(frozen):
            if home.checkpoint(seed):
                job = home.state(f"{_PRETRAIN}{seed} ")["pid"]
                frozen[seed] = int(Path(f"/proc/{job}/task/{job}/children").read_text().split()[0])
                os.kill(frozen[seed], signal.SIGSTOP)
        return len(frozen) == len(seeds)

    home.wait(all_frozen, "both trainings to begin", every=0.2)
    return frozen


def _requeue(home: Home, job: str, seed: int) -> int:
    """Sends a job back into the queue as an administrator does, and returns the step that it had come to."""
    home.slurm("scontrol", "requeue", job)
    return _step_when_back_in_the_queue(home, job, seed)


def _reach_the_time_limit(home: Home, job: str, seed: int, process: int) -> int:
    """Lets a job come near its time limit, and returns the step that it had come to."""
    spent = home.slurm("squeue", "--noheader", f"--job={job}", "--format=%M")
    _limit(home, job, int(spent.split(":")[-2]) + 2)
    # Slurm looks at the limits every 30 s; halted until then, the training is still in the middle of an epoch.
    home.wait(lambda: _is_told(process), "the signal before the time limit")
    os.kill(process, signal.SIGCONT)
    step = _step_when_back_in_the_queue(home, job, seed)
    _limit(home, job, 60)
    return step


def _limit(home: Home, job: str, minutes: int) -> None:
    home.slurm("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")


def _is_told(process: int) -> bool:
    """Whether SIGUSR1 waits for a halted process."""
    pending = re.search(r"ShdPnd:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
    return bool(pending and int(pending[1], 16) >> (signal.SIGUSR1 - 1) & 1)


def _step_when_back_in_the_queue(home: Home, job: str, seed: int) -> int:
    def waits() -> bool:
        return home.slurm("squeue", "--noheader", f"--job={job}", "--format=%T").strip() == "PENDING"

    home.wait(waits, f"job {job} to be back in the queue")
    return int(torch.load(home.checkpoint(seed), weights_only=True)["global_step"])
