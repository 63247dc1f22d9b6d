"""How far a sweep is, as a table."""

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
        state: `done`; `running`; `pending`, in Slurm's queue; `failed`, also where it was killed; `blocked`, because
            something that it depends on is not done; `missing`, neither done nor under way.
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
    return [Status(task, _seen(folder, task, queue), folder.job(task)) for task in tasks]


def _seen(folder: SweepFolder, task: Task, queue: Mapping[str, str]) -> Seen:
    state, job = folder.read(task).get("state"), folder.job(task)
    match state:
        case "done" | "failed":
            return state
        case _ if job in queue:
            return "running" if queue[job] in ("RUNNING", "COMPLETING") else "pending"
        case "running":
            # A task that says so but of which no process is left was killed.
            return "running" if not job and folder.runs(task) else "failed"
        case "blocked":
            return "blocked"
    return "missing"


def selected(found: Sequence[Status], which: Literal["failed", "missing"]) -> list[Task]:
    """Returns the tasks to run again: those that failed or were blocked by one that did, or all that are not done."""
    chosen = {"failed", "blocked"} if which == "failed" else {"failed", "blocked", "missing"}
    return [status.task for status in found if status.state in chosen]


def table(folder: SweepFolder, found: Sequence[Status]) -> str:
    """Returns one line a task and one with the numbers of each state."""
    rows = [("#", "state", "job", "log", "command")]
    for status in found:
        log = folder.log(status.task)
        rows.append((str(status.task.number), status.state, status.job or "-", str(log) if log.is_file() else "-",
                     status.task.line))  # fmt: skip
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = [
        "  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=False)), row[4]]) for row in rows
    ]
    counts = Counter(status.state for status in found)
    return "\n".join([*lines, f"{len(found)} commands: " + ", ".join(f"{n} {state}" for state, n in counts.items())])
