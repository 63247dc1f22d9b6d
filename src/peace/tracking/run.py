"""A command's run in Weights & Biases: opened by `with`, closed with how the command ended."""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from peace import provenance
from peace.config import fingerprint
from peace.interruption import Interrupted
from peace.registry import arguments
from peace.tracking.access import Mode, first_process, mode
from peace.tracking.labels import labels
from peace.tracking.tell import UNTRACKED, Tracked, failed

if TYPE_CHECKING:
    import wandb

_FINISH_SECONDS = 300


@dataclass(frozen=True)
class TrackingConfig:
    """Whether and where runs are told of.

    Attributes:
        name: `wandb`, or `none`, which imports nothing and writes nothing.
        project: In Weights & Biases.
        entity: The user or team there; the key's default one if null.
    """

    name: Literal["wandb", "none"]
    project: str = "peace"
    entity: str | None = None


class Tracking:
    """The run of a command; the same command goes on in the same run, a pure function of its folder and its name.

    Args:
        config: The whole config; its `tracking` says whether anything is told.
        command: Such as `pretrain`.
        where: The folder whose `wandb` folder takes what is recorded.
        results: The folder that holds the command's results, if not `where`.
        part: Which part of the work this is, where several processes share it, such as `2/4`.

    Raises:
        InputError: The config's `tracking` is wrong.
    """

    def __init__(
        self, config: Mapping[str, Any], command: str, where: Path, results: Path | None = None, part: str = ""
    ) -> None:
        self.settings = TrackingConfig(**arguments(TrackingConfig, config["tracking"], "tracking"))
        self.config, self.command, self.where, self.part = config, command, where, part
        self.results = results or where
        self.id = fingerprint([str(self.results), command, *([part] if part else [])])

    def __enter__(self) -> Tracked:
        """Opens the run; what W&B cannot do is said and does not end the command."""
        self.tracked, self.staged = UNTRACKED, ExitStack()
        if self.settings.name == "wandb" and first_process():
            with ExitStack() as staged:
                staged.enter_context(_staged_in(self.where / "wandb"))
                if (chosen := mode()) != "disabled":
                    self.tracked = Tracked(self._open(chosen))
                self.staged = staged.pop_all()
        return self.tracked

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the run: finished, failed, or stopped on request, in which case a sweep's agent may start it again."""
        with self.staged:
            self.tracked.close(0 if error is None else getattr(error, "exit_code", 1), isinstance(error, Interrupted))

    def _open(self, chosen: Mode) -> "wandb.Run | None":
        import wandb

        try:
            return self._start(chosen)
        except Exception as error:  # whatever W&B raises must not end the work that it watches
            failed(f"starting the run {chosen}", error)
        try:
            wandb.teardown()  # what began to start holds the run's id
            run = self._start("offline")
        except Exception as error:  # as above
            failed("starting the run offline", error)
            return None
        print("peace: the run is recorded offline; `peace sync` uploads it", file=sys.stderr)
        return run

    def _start(self, chosen: Mode) -> "wandb.Run":
        import wandb

        named = labels(self.config, self.command, self.part)
        # Under a sweep's agent its project and id win; wandb ignores others, with a warning for each.
        own = {"project": self.settings.project, "entity": self.settings.entity, "id": self.id}
        offline = chosen == "offline"
        told = {"command": self.command, "run_directory": str(self.results), "git_commit": provenance.git_commit(),
                "versions": provenance.versions() | {"wandb": wandb.__version__}}  # fmt: skip
        self.where.mkdir(parents=True, exist_ok=True)
        run = wandb.init(
            # Absolute: wandb's service, which outlives a run, may have begun in another working directory.
            **({} if os.environ.get("WANDB_SWEEP_ID") else own), **named, mode=chosen, dir=self.where.resolve(),
            # Offline there is nothing to ask; `peace sync` resumes when it uploads.
            resume=None if offline else "allow",
            config={**self.config, **told}, settings=_settings(offline),
        )  # fmt: skip
        if not offline:
            print(f"W&B: {run.url}", file=sys.stderr)
        return run


def _settings(offline: bool) -> "wandb.Settings":
    """As little as possible beside what is told: no watching of the machine, the console or the source tree."""
    import wandb

    return wandb.Settings(
        console="off", silent=offline, quiet=True, disable_git=True, disable_code=True, x_disable_stats=True,
        x_disable_machine_info=True, x_save_requirements=False,
        # A lost network must not hold a finished command for ever; what is not uploaded stays on disk.
        finish_timeout=_FINISH_SECONDS, finish_timeout_raises=True,
    )  # fmt: skip


@contextmanager
def _staged_in(folder: Path) -> Iterator[None]:
    """Lets wandb put aside what it uploads later in the run's folder, not in the home folder, unless told otherwise."""
    unset = [name for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR") if name not in os.environ]
    os.environ.update(dict.fromkeys(unset, str(folder.resolve())))
    try:
        yield
    finally:
        for name in unset:
            os.environ.pop(name, None)
