"""How far a sweep is, as a table."""

import socket
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from peace.sweeps.spec import Task
from peace.sweeps.state import SweepFolder

Seen = Literal["done", "running", "pending", "failed", "blocked", "missing"]


@dataclass(frozen=True)
class Status:
    """One task as a person sees it.

    Attributes:
        task: The task.
        state: `done`; `running`; `pending`, in Slurm's queue; `failed`, also where it was killed or cancelled;
            `blocked`, because something that it depends on is not done; `missing`, neither done nor under way.
        job: Its Slurm job, if any.
    """

    task: Task
    state: Seen
    job: str


def statuses(folder: SweepFolder, tasks: Sequence[Task], queue: Mapping[str, str]) -> list[Status]:
    """Returns where each task stands.

    Args:
        folder: Where states lie.
        tasks: The manifest.
        queue: State of each of the user's Slurm jobs, by id.
    """
    jobs = [folder.job(task) for task in tasks]
    return [Status(task, _seen(folder, task, job, queue), job) for task, job in zip(tasks, jobs, strict=True)]


def _seen(folder: SweepFolder, task: Task, job: str, queue: Mapping[str, str]) -> Seen:
    known = folder.read(task)
    state, queued = known.get("state"), queue.get(job, "") if job else ""
    if state == "done" or (state == "failed" and queued != "PENDING"):
        return state
    if queued:
        return "running" if queued in ("RUNNING", "COMPLETING") else "pending"
    if state == "running":
        elsewhere = not job and known.get("host") != socket.gethostname()
        # A task that says so but of which no process is left was killed; another machine's processes are not seen.
        return "running" if elsewhere or (not job and folder.runs(task)) else "failed"
    if state == "blocked":
        return "blocked"
    # What was sent to Slurm and is there no more was cancelled, or ended before it could say anything.
    return "failed" if state == "waiting" and job else "missing"


def selected(found: Sequence[Status], which: Literal["failed", "missing"]) -> list[Task]:
    """Returns the tasks to run again, and those that come after them, also where these were done before.

    Args:
        found: Where each task stands, in the order of the manifest.
        which: `failed`, what failed or was blocked by what did; `missing`, all that is not done.
    """
    chosen = {"failed", "blocked"} if which == "failed" else {"failed", "blocked", "missing"}
    numbers: set[int] = set()
    for status in found:
        if status.state in chosen or (status.state != "running" and numbers.intersection(status.task.after)):
            numbers.add(status.task.number)
    return [status.task for status in found if status.task.number in numbers]


def _log(folder: SweepFolder, status: Status) -> str:
    """The command's own output or, where it did not come so far, what Slurm has of it."""
    own, slurm = folder.read(status.task).get("log"), folder.path / "logs" / f"slurm-{status.job}.log"
    return own or (str(slurm) if status.job and slurm.is_file() else "-")


def table(folder: SweepFolder, found: Sequence[Status]) -> str:
    """Returns one line a task and one with the numbers of each state."""
    rows = [("#", "state", "job", "log", "command")]
    for status in found:
        rows.append((str(status.task.number), status.state, status.job or "-", _log(folder, status), status.task.line))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]]) for row in rows
    ]
    counts = Counter(status.state for status in found)
    return "\n".join([*lines, f"{len(found)} commands: " + ", ".join(f"{n} {state}" for state, n in counts.items())])
