"""`peace sweep`: an experiment's commands, printed, run here, sent to Slurm, or looked after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from peace.config import compose, place
from peace.errors import InputError
from peace.sweeps import slurm, status
from peace.sweeps.local import LocalSweep
from peace.sweeps.spec import Task, manifest
from peace.sweeps.state import SweepFolder

_SLOW = ["peace.commands.pretrain", "peace.commands.evaluate"]


@dataclass(frozen=True)
class Ask:
    """What to do with the commands.

    Attributes:
        local: Run them here.
        submit: Send them to Slurm.
        status: Print how far each is.
        resubmit: Run again only those that failed, or all that are not done: here if `local`, else by Slurm.
        jobs: How many run here at a time.
        throttle: How many tasks of an array Slurm may run at a time.
    """

    local: bool = False
    submit: bool = False
    status: bool = False
    resubmit: Literal["failed", "missing"] | None = None
    jobs: int = 1
    throttle: int | None = None


def run(
    experiment: str,
    words: Sequence[str],
    seeds: Sequence[int] | None,
    ask: Ask,
    peace: Callable[[Sequence[str]], int],
) -> None:
    """Prints the manifest, or does what is asked with it.

    Args:
        experiment: A folder under `experiments`.
        words: `key=value` words added to every command.
        seeds: Instead of the experiment's own.
        ask: What to do.
        peace: Runs a `peace` command and returns its exit code.

    Raises:
        InputError: There is no such experiment, or it is asked for what does not go together.
        PeaceError: A command failed, or Slurm refused.
    """
    _require_sense(ask)
    tasks = manifest(experiment, seeds, words)
    own = [word for word in words if word.startswith(("paths.", "tracking"))]
    config = compose("evaluate", [f"experiment={experiment}", *own])
    folder = SweepFolder(place(config, "runs") / experiment / "sweep")
    if ask.status:
        print(status.table(folder, _statuses(folder, tasks)))
    elif ask.local or ask.submit or ask.resubmit:
        chosen = _chosen(folder, tasks, ask)
        if not chosen:
            print(f"nothing to run: no command is {ask.resubmit}")
        elif ask.local:
            imported = [*_SLOW, *(["wandb"] if config["tracking"]["name"] == "wandb" else [])]
            LocalSweep(folder, tasks, ask.jobs, peace, imported).run(chosen)
        else:
            jobs = slurm.submit(folder, tasks, chosen, ask.throttle)
            print(f"{len(chosen)} commands in {len(jobs)} arrays: {' '.join(jobs)}")
            print(f"how far they are: peace sweep {experiment} --status")
    else:
        print("\n".join(task.line for task in tasks))


def _require_sense(ask: Ask) -> None:
    if sum((ask.local, ask.submit)) > 1 or (ask.status and (ask.local or ask.submit or ask.resubmit)):
        raise InputError("--local, --submit and --status exclude each other, and --status --resubmit", do="choose one")
    if ask.jobs > 1 and not ask.local:
        raise InputError("-j without --local", do="add --local, or use --throttle for Slurm")
    if ask.throttle and (ask.local or not (ask.submit or ask.resubmit)):
        raise InputError("--throttle without --submit", do="use -j with --local")
    if ask.jobs < 1 or (ask.throttle is not None and ask.throttle < 1):
        raise InputError("not a number of commands", where="-j or --throttle", expected="1 or more")


def _statuses(folder: SweepFolder, tasks: list[Task]) -> list[status.Status]:
    submitted = any(folder.job(task) for task in tasks)
    return status.statuses(folder, tasks, slurm.queue() if submitted else {})


def _chosen(folder: SweepFolder, tasks: list[Task], ask: Ask) -> list[Task]:
    """All tasks, or those of a resubmission; never one that is under way."""
    found = _statuses(folder, tasks)
    if ask.resubmit:
        return status.selected(found, ask.resubmit)
    busy = [each for each in found if each.state in ("running", "pending")]
    if busy:
        raise InputError(f"{len(busy)} of the commands are under way already", got=busy[0].task.line,
                         do="wait for them (--status), or run only what is not (--resubmit missing)")  # fmt: skip
    return tasks
