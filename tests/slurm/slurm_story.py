"""A sweep through everything that a cluster does to it, and the same sweep undisturbed on this machine."""

import os
import re
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from slurm_home import EXPERIMENT, Home, Line, finished

_PRETRAIN = "peace pretrain experiment=tiny row.method="
_PRODUCER = Path("configs") / "producer" / "statistics.yaml"


@dataclass(frozen=True)
class Story:
    """What was seen of the two sweeps.

    Attributes:
        home: Where Slurm ran the sweep.
        reference: Where `peace sweep --local -j 2` ran it, its encoders embedding in one piece.
        submitted: What Slurm said of the jobs when they were submitted.
        underway: `--status` while the trainings ran.
        stopped_at: The step that the checkpoint of each training held when its job was back in the queue.
        ended: What Slurm said of the jobs when the queue was empty for the first time.
        failed: `--status` then.
        resubmitted: What `--resubmit failed` printed after the repair.
        repaired: `--status` when the queue was empty again.
    """

    home: Home
    reference: Home
    submitted: str
    underway: list[Line]
    stopped_at: dict[str, int]
    ended: str
    failed: list[Line]
    resubmitted: str
    repaired: list[Line]


def tell(folder: Path, environment: dict[str, str]) -> Story:
    """Runs both sweeps, disturbs the one in Slurm, repairs it, and returns what was seen.

    The training of `peace` loses its processor to `scontrol requeue`, that of `narrow` to its time limit, both in the
    middle of an epoch; `statistics` fails, because its configuration has a typing error.
    """
    tracked = environment | {"WANDB_MODE": "offline"}
    home, reference = Home.make(folder / "slurm", 4, tracked), Home.make(folder / "reference", 1)
    (home.path / _PRODUCER).write_text("name: statistic\n")
    home.peace("sweep", EXPERIMENT, "--submit", "--throttle", "3")
    submitted = home.slurm("scontrol", "show", "job")
    processes = _freeze(home, ("peace", "narrow"))
    undisturbed = reference.start("sweep", EXPERIMENT, "--local", "-j", "2")
    underway = home.status()
    stopped_at = {
        "peace": _requeue(home, "peace"),
        "narrow": _reach_the_time_limit(home, "narrow", processes["narrow"]),
    }
    home.drain()
    ended, failed = home.slurm("scontrol", "show", "job"), home.status()
    (home.path / _PRODUCER).write_text("name: statistics\n")
    resubmitted = home.peace("sweep", EXPERIMENT, "--resubmit", "failed")
    home.drain()
    finished(undisturbed)
    return Story(home, reference, submitted, underway, stopped_at, ended, failed, resubmitted, home.status())


def _freeze(home: Home, methods: Sequence[str]) -> dict[str, int]:
    """Halts each training in its first epoch, so that what follows need not hurry, and returns its process."""
    frozen: dict[str, int] = {}
    checkpoints = {method: home.run(method) / "last.ckpt" for method in methods}

    def all_frozen() -> bool:
        for method in set(methods) - set(frozen):
            if checkpoints[method].is_file():
                job = home.state(f"{_PRETRAIN}{method} ")["pid"]
                frozen[method] = int(Path(f"/proc/{job}/task/{job}/children").read_text().split()[0])
                os.kill(frozen[method], signal.SIGSTOP)
        return len(frozen) == len(methods)

    home.wait(all_frozen, "the trainings to begin", every=0.05)
    return frozen


def _requeue(home: Home, method: str) -> int:
    """Sends a job back into the queue as an administrator does, and returns the step that it had come to."""
    job = _job(home, method)
    home.slurm("scontrol", "requeue", job)
    return _step_when_back_in_the_queue(home, method, job)


def _reach_the_time_limit(home: Home, method: str, process: int) -> int:
    """Lets a job come near its time limit, and returns the step that it had come to."""
    job = _job(home, method)
    spent = home.slurm("squeue", "--noheader", f"--job={job}", "--format=%M")
    _limit(home, job, int(spent.split(":")[-2]) + 2)
    # Slurm looks at the limits every 30 s; halted until then, the training is still in the middle of an epoch.
    home.wait(lambda: _is_told(process), "the signal before the time limit")
    os.kill(process, signal.SIGCONT)
    step = _step_when_back_in_the_queue(home, method, job)
    _limit(home, job, 60)
    return step


def _job(home: Home, method: str) -> str:
    return home.state(f"{_PRETRAIN}{method} ")["job"]


def _limit(home: Home, job: str, minutes: int) -> None:
    home.slurm("scontrol", "update", f"JobId={job}", f"TimeLimit={minutes}")


def _is_told(process: int) -> bool:
    """Whether SIGUSR1 waits for a halted process."""
    pending = re.search(r"ShdPnd:\s*(\w+)", Path(f"/proc/{process}/status").read_text())
    return bool(pending and int(pending[1], 16) >> (signal.SIGUSR1 - 1) & 1)


def _step_when_back_in_the_queue(home: Home, method: str, job: str) -> int:
    def waits() -> bool:
        return home.slurm("squeue", "--noheader", f"--job={job}", "--format=%T").strip() == "PENDING"

    home.wait(waits, f"job {job} to be back in the queue")
    return int(torch.load(home.run(method) / "last.ckpt", weights_only=True)["global_step"])
