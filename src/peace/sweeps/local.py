"""A sweep on this machine: so many commands at a time, each a process of its own."""

import multiprocessing
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from peace.errors import PeaceError
from peace.interruption import Interrupted, StopRequest, stop_requests
from peace.sweeps.spec import Task
from peace.sweeps.state import SweepFolder, unmet
from peace.sweeps.task import STOPPED, argv, execute

Peace = Callable[[Sequence[str]], int]
_LOOK_SECONDS = 0.5
# SIGUSR1 rather than SIGTERM, of which wandb's own process, in the same group, would die before it has written all.
_STOP = signal.SIGUSR1
_STOPPED = (*STOPPED, -_STOP)
_HELD = 75
"""Exit code of a process that found its task in the hands of another one, whose state it must not touch."""


class LocalSweep:
    """Runs commands as soon as those that they depend on are done; what depends on a failed one is not run.

    Commands are forked from a server that has imported what is slow to import, and share the processor's cores evenly.

    Args:
        folder: Where states and logs go.
        tasks: The whole manifest.
        jobs: How many commands run at a time. With one, their output goes to the terminal, else to their logs.
        peace: Runs a `peace` command in the process that it is called in, and returns its exit code.
        imported: Modules that the server imports before it forks.
    """

    def __init__(
        self, folder: SweepFolder, tasks: Sequence[Task], jobs: int, peace: Peace, imported: Sequence[str] = ()
    ) -> None:
        self.folder, self.jobs, self.peace, self.imported = folder, jobs, peace, list(imported)
        self.tasks = {task.number: task for task in tasks}
        self.left: list[Task] = []
        self.running: dict[Task, BaseProcess] = {}
        self.ended: dict[Task, int] = {}
        self.started: dict[Task, float] = {}
        self.seconds: dict[str, list[float]] = {}
        self.began = time.monotonic()

    def run(self, selected: Sequence[Task]) -> None:
        """Runs some of the tasks.

        Raises:
            Interrupted: A stop was asked for; every command that can go on later has saved.
            PeaceError: A command failed; the others that could be run were.
        """
        for task in selected:
            self.folder.forget_job(task)
            self.folder.write(task, "waiting")
        self.left, told = list(selected), False
        with stop_requests() as stop:
            context = _context(self.jobs, self.imported)
            try:
                while self.running or (self.left and not stop.asked):
                    self._start(context, stop)
                    if stop.asked and not told:
                        told = True
                        self._signal(_STOP)
                    self._collect(stop)
            except (EOFError, ConnectionError) as error:
                self._signal(signal.SIGKILL)
                raise PeaceError("the process that starts the commands was killed") from error
            except BaseException:
                self._signal(signal.SIGKILL)
                raise
        if stop.asked:
            left = len(self.left) + sum(code in _STOPPED for code in self.ended.values())
            raise Interrupted(f"stopped with {left} of {len(selected)} commands left; run `peace sweep` with the same "
                              "words and `--local --resubmit missing` to go on")  # fmt: skip
        self._report(len(selected))

    def _start(self, context: ForkServerContext, stop: StopRequest) -> None:
        """Starts what can be started; what waits for something that will not come is blocked."""
        for task in list(self.left):
            if stop.asked or len(self.running) >= self.jobs:
                return
            missing = unmet(self.folder, task, self.tasks)
            if any(other in self.left or other in self.running for other in missing):
                continue
            self.left.remove(task)
            if missing:
                self.folder.write(task, "blocked")
                continue
            # The server's surroundings are those of its start, which may have been an earlier sweep's.
            around = (Path.cwd(), dict(os.environ))
            process = context.Process(target=_child, args=(self.folder, task, self._log(task), self.peace, around))
            process.start()
            self.running[task], self.started[task] = process, time.monotonic()
            self._say(task, "")

    def _log(self, task: Task) -> Path | None:
        """None for the terminal; a table is what one waits for, so it is always shown."""
        return self.folder.log(task) if self.jobs > 1 and task.verb != "table" else None

    def _collect(self, stop: StopRequest) -> None:
        wait([process.sentinel for process in self.running.values()], _LOOK_SECONDS)
        for task, process in list(self.running.items()):
            if process.exitcode is None:
                continue
            process.join()
            del self.running[task]
            self.ended[task] = process.exitcode
            self.seconds.setdefault(task.verb, []).append(time.monotonic() - self.started[task])
            if process.exitcode in (0, Interrupted.exit_code, _HELD):
                continue
            # Written here, because what was killed could not say so itself.
            state = "waiting" if stop.asked and process.exitcode in _STOPPED else "failed"
            self.folder.write(task, state, exit_code=process.exitcode, log=str(self._log(task) or ""))
            self._say(task, f"ended with exit code {process.exitcode}: ")

    def _say(self, task: Task, what: str) -> None:
        spent = f"{time.monotonic() - self.began:.0f} s{self._estimate()}"
        print(f"[{task.number}/{len(self.tasks)}, {spent}] {what}{task.line}", flush=True)

    def _estimate(self) -> str:
        """How long it may still take, once a command of each kind that is left has ended."""
        waiting = [task.verb for task in (*self.left, *self.running)]
        if not waiting or any(verb not in self.seconds for verb in waiting):
            return ""
        left = sum(sum(self.seconds[verb]) / len(self.seconds[verb]) for verb in waiting) / self.jobs
        return f", about {left:.0f} s left"

    def _signal(self, number: int) -> None:
        for process in self.running.values():
            with suppress(ProcessLookupError):
                # With what it has started; it may not have made its group yet.
                try:
                    os.killpg(process.pid, number)  # type: ignore[arg-type]
                except ProcessLookupError:
                    os.kill(process.pid, number)  # type: ignore[arg-type]

    def _report(self, selected: int) -> None:
        failed = {task: code for task, code in self.ended.items() if code}
        blocked = selected - len(self.ended)
        if failed:
            task, code = next(iter(failed.items()))
            where = f" (log: {self._log(task)})" if self._log(task) else ""
            others = f", {blocked} that depend on such were not run" if blocked else ""
            raise PeaceError(f"{len(failed)} of {selected} commands failed{others}; the first ended with exit code "
                             f"{code}: {task.line}{where}", exit_code=max(code, 1))  # fmt: skip
        if blocked:
            raise PeaceError(f"{blocked} of {selected} commands were not run, because what they depend on is not done")


def _context(jobs: int, imported: list[str]) -> ForkServerContext:
    if jobs > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // jobs)))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(imported)
    # The server shares the terminal's Ctrl-C, and must outlive it; the commands take it back.
    resource_tracker.ensure_running()  # which the server would start, and which unblocks signals when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return context


def _cores() -> int:
    """Of this process, which may have been given fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _child(
    folder: SweepFolder, task: Task, log: Path | None, peace: Peace, around: tuple[Path, dict[str, str]]
) -> None:
    """Runs a task in a process of its own, in a process group of its own: Ctrl-C reaches the sweep alone."""
    os.setpgid(0, 0)
    # One that came before the group was made was the sweep's; ignoring discards it while it is pending.
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    signal.signal(signal.SIGINT, handler)
    os.chdir(around[0])
    os.environ.clear()
    os.environ.update(around[1])
    if log:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as file:
            os.dup2(file.fileno(), sys.stdout.fileno())
            os.dup2(file.fileno(), sys.stderr.fileno())

    def call() -> int:
        program, *arguments = shlex.split(task.line)
        if program == "peace":
            return peace(arguments)
        command, home = argv(task)
        return subprocess.run(command, cwd=home, check=False).returncode

    try:
        code = execute(folder, task, call, log=str(log or ""))
    except PeaceError as error:
        print(f"peace: {error}", file=sys.stderr)
        code = _HELD
    sys.exit(code)
