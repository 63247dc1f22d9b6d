"""What a command tells of its work: numbers, tables, pictures, artifacts. Where nothing is tracked, nothing happens."""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pandas import DataFrame

from peace.tracking.artifacts import Artifact

if TYPE_CHECKING:
    import wandb


def failed(doing: str, error: BaseException) -> None:
    """Says on stderr what Weights & Biases could not do, in one line."""
    print(f"peace: Weights & Biases failed in {doing}: {' '.join(str(error).split()) or type(error).__name__}",
          file=sys.stderr)  # fmt: skip


class Tracked:
    """What is told of a command; true where anyone listens, so that nothing is computed in vain.

    Whatever W&B raises is said once on stderr, and the work goes on untracked: a training is worth more than its curve.

    Args:
        run: W&B's, or None where nothing is tracked.
    """

    def __init__(self, run: "wandb.Run | None") -> None:
        self._run, self._broken = run, False

    def __bool__(self) -> bool:
        """Returns whether anything is told."""
        return self._run is not None and not self._broken

    def log(self, numbers: Mapping[str, Any], step: int | None = None) -> None:
        """Tells numbers of a step; those of a step that an earlier part of the run told already stay as they are."""
        self._tell("logging", lambda run: run.log(dict(numbers), step=step))

    def describe(self, **facts: Any) -> None:  # noqa: ANN401 - what JSON can hold
        """Adds to the run's config what became known after its start, such as the zoo's hash."""
        self._tell("describing the run", lambda run: run.config.update(facts, allow_val_change=True))

    def summarise(self, numbers: Mapping[str, float | int | None]) -> None:
        """Tells the numbers that stand for the whole run, those that are known."""
        known = {name: number for name, number in numbers.items() if number is not None}
        self._tell("summing up", lambda run: run.summary.update(known))

    def table(self, name: str, rows: DataFrame) -> None:
        """Tells a table that can be sorted and filtered."""

        def log(run: "wandb.Run") -> None:
            import wandb

            cells = rows.astype(object).where(rows.notna(), None)  # NaN would be a number that stands for none
            run.log({name: wandb.Table(dataframe=cells.reset_index(drop=True))})

        self._tell(f"logging the table {name}", log)

    def picture(self, name: str, path: Path) -> None:
        """Tells the picture in a file."""

        def log(run: "wandb.Run") -> None:
            import wandb

            run.log({name: wandb.Image(str(path))})

        self._tell(f"logging the picture {name}", log)

    def text(self, name: str, text: str) -> None:
        """Tells a text as it stands, such as a Markdown table."""

        def log(run: "wandb.Run") -> None:
            import html

            import wandb

            run.log({name: wandb.Html(f"<pre>{html.escape(text)}</pre>", inject=False)})

        self._tell(f"logging the text {name}", log)

    def made(self, artifact: Artifact) -> None:
        """Tells that the command made an artifact."""
        self._tell(f"logging {artifact.name}", lambda run: run.log_artifact(artifact.built()))

    def used(self, artifact: Artifact) -> None:
        """Tells that the command used an artifact, which the run of another command made."""
        # `use_artifact` refuses to work offline. This is what it does online with an artifact that was built here; the
        # server takes one of equal content for the version that is there already.
        self._tell(
            f"using {artifact.name}",
            lambda run: run._log_artifact(artifact.built(), is_user_created=True, use_after_commit=True),
        )

    def close(self, exit_code: int, stopped: bool) -> None:
        """Ends the run.

        Args:
            exit_code: Of the command.
            stopped: Whether it was stopped on request and can go on.
        """
        if self._run is None:
            return
        import wandb

        try:
            if stopped:
                self._run.mark_preempting()
            self._run.finish(exit_code=exit_code)
        except Exception as error:  # as above
            folder = Path(self._run.dir).parent
            failed("ending the run", error)
            print(
                f"peace: what was recorded lies in {folder}; `wandb sync --include-online` uploads it", file=sys.stderr
            )
            with suppress(Exception):  # else wandb would try again when Python ends, and print how it fails
                wandb.teardown()

    def _tell(self, doing: str, action: Callable[["wandb.Run"], object]) -> None:
        if self._run is None or self._broken:
            return
        try:
            action(self._run)
        except Exception as error:  # as above
            self._broken = True
            failed(doing, error)
            print("peace: the work goes on; the rest of it is not tracked", file=sys.stderr)


UNTRACKED = Tracked(None)
