"""How far each command of a sweep is: small files, so that a killed process, another node or a later day can tell."""

import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from peace import provenance
from peace.atomic import replacing
from peace.config import fingerprint
from peace.errors import InputError, PeaceError
from peace.exclusive import locked
from peace.sweeps.spec import Task

_TRIES = 20
State = Literal["waiting", "running", "done", "failed", "blocked"]


class SweepFolder:
    """`<paths.runs>/<experiment>/sweep`: manifests, the state of each command, logs.

    A command's state is named after its line, so that two manifests with a line in common share what is known of it.

    Args:
        path: The folder; made when something is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def save(self, tasks: Sequence[Task]) -> Path:
        """Writes a manifest and returns where it lies, a pure function of its lines."""
        where = self.path / f"{fingerprint([task.line for task in tasks])}.json"
        with replacing(where) as path:
            path.write_text(json.dumps([asdict(task) for task in tasks], indent=1))
        return where

    @staticmethod
    def load(manifest: Path) -> tuple["SweepFolder", list[Task]]:
        """Returns the folder and the tasks of a saved manifest.

        Raises:
            InputError: It cannot be read.
        """
        try:
            content = [Task(**{**entry, "after": tuple(entry["after"])}) for entry in json.loads(manifest.read_text())]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise InputError("cannot read the manifest", where=manifest, got=str(error)) from error
        return SweepFolder(manifest.parent), content

    def log(self, task: Task) -> Path:
        """Returns where the task's output goes."""
        return self.path / "logs" / f"{task.key}.log"

    def read(self, task: Task) -> dict[str, Any]:
        """Returns what is known of a task: nothing, if it was never started or submitted.

        Raises:
            InputError: Its file cannot be read.
        """
        where = self._file(task)
        try:
            return json.loads(where.read_text())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise InputError("cannot read a task's state", where=where, got=str(error), do="delete it") from error

    def write(self, task: Task, state: State, **facts: object) -> None:
        """Replaces what is known of a task."""
        self._put(task, {"state": state, "at": provenance.now(), **facts, "line": task.line})

    def _put(self, task: Task, content: Mapping[str, Any]) -> None:
        with replacing(self._file(task)) as path:
            path.write_text(json.dumps(content))

    def restore(self, task: Task, content: Mapping[str, Any], job: str) -> None:
        """Puts back what was known of a task before it was changed in vain."""
        if content:
            self._put(task, content)
        else:
            self._file(task).unlink(missing_ok=True)
        if job:
            self.submitted(task, job)
        else:
            self.forget_job(task)

    def submitted(self, task: Task, job: str) -> None:
        """Notes the Slurm job that will run a task; apart from its state, which the job itself may write first."""
        with replacing(self._file(task).with_suffix(".job")) as path:
            path.write_text(job)

    def job(self, task: Task) -> str:
        """Returns the Slurm job that ran or will run a task, or an empty text."""
        path = self._file(task).with_suffix(".job")
        return path.read_text() if path.is_file() else ""

    def forget_job(self, task: Task) -> None:
        """Forgets the Slurm job of a task that is to be run in another way."""
        self._file(task).with_suffix(".job").unlink(missing_ok=True)

    @contextmanager
    def running(self, task: Task, **facts: object) -> Iterator[None]:
        """Marks a task as running, and holds its lock, which ends with the process however that ends.

        Raises:
            PeaceError: The task runs already.
        """
        with self._lock(task) as free:
            if not free:
                raise PeaceError(f"the command runs already, in another process: {task.line}")
            self.write(task, "running", host=socket.gethostname(), pid=os.getpid(), **facts)
            yield

    def runs(self, task: Task) -> bool:
        """Whether a process of this machine holds the task."""
        path = self._file(task).with_suffix(".lock")
        if not path.is_file():
            return False
        with path.open() as file:
            return not locked(file, f"sweep: {self.path}", shared=True)

    @contextmanager
    def _lock(self, task: Task) -> Iterator[bool]:
        """Tries more than once, because a mere look at the lock, which takes it for a moment, must not count."""
        path = self._file(task).with_suffix(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            for _ in range(_TRIES):
                if locked(file, f"sweep: {self.path}"):
                    yield True
                    return
                time.sleep(0.05)
            yield False

    def _file(self, task: Task) -> Path:
        return self.path / "tasks" / f"{task.key}.json"


def unmet(folder: SweepFolder, task: Task, tasks: Mapping[int, Task]) -> list[Task]:
    """Returns the tasks that a task waits for and that are not done."""
    return [tasks[number] for number in task.after if folder.read(tasks[number]).get("state") != "done"]
