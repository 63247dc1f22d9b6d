"""One command of a sweep, with its state and its log kept. In a Slurm job: `python -m peace.sweeps.task MANIFEST N`.

A job near its time limit gets SIGUSR1 (`--signal=B:USR1@…`): it is passed on to the command, which saves and stops,
and the job goes back into the queue, where the same command goes on later.
"""

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from peace.config import folder
from peace.errors import InputError, PeaceError
from peace.interruption import Interrupted
from peace.sweeps.spec import Task
from peace.sweeps.state import SweepFolder, unmet

# Of a command that saved, and of one that had nothing to save when it was told to end, also as srun says it.
STOPPED = (Interrupted.exit_code, -signal.SIGTERM, 128 + signal.SIGTERM)
# The first process's exit code is that of the training; where another one dies, the rest is waited for no longer than
# it takes to tell W&B the end.
_SRUN = ["srun", "--kill-on-bad-exit=0", "--wait=600"]


def execute(sweep: SweepFolder, task: Task, run: Callable[[], int], **facts: object) -> int:
    """Runs a task and notes its end; returns its exit code.

    Args:
        sweep: Where its state goes.
        task: The task.
        run: Does the work and returns an exit code.
        facts: What else is known of the task, such as its job.

    Raises:
        PeaceError: The task runs already.
    """
    with sweep.running(task, **facts):
        code = run()
        state = "done" if code == 0 else "waiting" if code in STOPPED else "failed"
        sweep.write(task, state, exit_code=code, **facts)
    return code


def argv(task: Task) -> tuple[list[str], Path | None]:
    """Returns the command for the system and the folder to run it in; `peace` and `python` are those that run now."""
    program, *arguments = shlex.split(task.line)
    match program:
        case "peace":
            return [sys.executable, "-m", "peace.cli", *arguments], None
        case "python":
            return [sys.executable, *arguments], folder("experiments").parent
    return [program, *arguments], None


class Job:
    """A task inside a Slurm job: signals are passed on, and SIGUSR1 sends the job back into the queue."""

    def __init__(self, sweep: SweepFolder, task: Task) -> None:
        self.sweep, self.task = sweep, task
        self.asked: list[int] = []
        self.process: subprocess.Popen[bytes] | None = None

    def run(self) -> int:
        """Runs the task, appends to its log, and returns its exit code."""
        job = _own_name()
        for number in (signal.SIGUSR1, signal.SIGTERM):
            signal.signal(number, self._pass_on)
        facts = {"job": self.sweep.job(self.task) or job, "log": str(self.sweep.log(self.task))}
        code = execute(self.sweep, self.task, self._call, **facts)
        if signal.SIGUSR1 not in self.asked or code == 0:
            return code
        if code != Interrupted.exit_code:
            self._note(
                "the time limit came before the end, and the command cannot go on later: give its step more time"
            )
            return code
        requeued = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
        if requeued.returncode:
            self.sweep.write(self.task, "failed", exit_code=code, **facts)
            self._note(f"the job cannot go back into the queue: {' '.join(requeued.stderr.split())}")
        return code

    def _call(self) -> int:
        command, home = argv(self.task)
        log = self.sweep.log(self.task)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            self.process = subprocess.Popen(_spread(self.task, command), cwd=home, stdout=output, stderr=output)
            for number in self.asked:  # one that came before there was a process
                self.process.send_signal(number)
            return self.process.wait()

    def _note(self, sentence: str) -> None:
        with self.sweep.log(self.task).open("a") as log:
            print(f"peace: {sentence}", file=log)

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.asked.append(number)
        if self.process is not None:
            self.process.send_signal(number)


def _own_name() -> str:
    """This job as Slurm's commands must call it: the id of an array's last task is also that of the whole array."""
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ["SLURM_JOB_ID"]


def _spread(task: Task, command: list[str]) -> list[str]:
    """The command over all processes of this job, if it is a training and there are several."""
    nodes = int(os.environ.get("SLURM_NNODES", "1"))
    each = int(os.environ.get("SLURM_NTASKS", "1")) // nodes
    if task.verb != "pretrain" or nodes * each == 1:
        return command
    return [*_SRUN, *command, f"trainer.num_nodes={nodes}", f"trainer.devices={each}"]


def main(arguments: Sequence[str]) -> int:
    """Runs task N of a manifest inside a Slurm job and returns its exit code.

    Args:
        arguments: The manifest and N.
    """
    manifest, number = Path(arguments[0]), int(arguments[1])
    sweep, tasks = SweepFolder.load(manifest)
    by_number = {task.number: task for task in tasks}
    if number not in by_number:
        raise InputError(f"no task {number}", where=manifest, expected=f"1 to {len(tasks)}")
    task = by_number[number]
    if missing := unmet(sweep, task, by_number):
        sweep.write(task, "blocked", job=sweep.job(task))
        raise PeaceError(f"not run, because this is not done: {missing[0].line}")
    return Job(sweep, task).run()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except PeaceError as error:
        print(f"peace: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
