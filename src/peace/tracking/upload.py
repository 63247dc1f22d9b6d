"""Runs that were recorded offline, found and uploaded with wandb's own `sync`."""

import os
from collections.abc import Sequence
from pathlib import Path

from peace.errors import InputError, PeaceError
from peace.tracking.access import has_key


def waiting(folder: Path) -> list[Path]:
    """Returns the logs of offline runs below a folder that were not uploaded yet, in the order in which they began.

    A run that was stopped and went on has several.

    Args:
        folder: Where to look, such as that of the runs.
    """
    logs = folder.resolve().rglob("offline-run-*/run-*.wandb")
    return sorted((log for log in logs if not _mark(log).exists()), key=_age)


def _age(log: Path) -> tuple[str, float]:
    """The second in which a run began, which its folder is named after, and within that when it ended."""
    return log.parent.name.removeprefix("offline-run-")[:15], log.stat().st_mtime


def upload(logs: Sequence[Path]) -> None:
    """Uploads logs one after the other, so that what a run used is there before it.

    Raises:
        InputError: There is no key.
        PeaceError: Some were not uploaded; wandb has said why.
    """
    # A part of a run that comes after another one is to be added to it, not to take its place.
    os.environ["WANDB_RESUME"] = "allow"
    if not has_key():
        raise InputError(f"no key of Weights & Biases to upload {len(logs)} runs with",
                         do="run `wandb login`, or set WANDB_API_KEY")  # fmt: skip
    left = [log for log in logs if not _uploaded(log)]
    if left:
        raise PeaceError(f"{len(left)} of {len(logs)} runs were not uploaded, the first of them {left[0].parent}; "
                         "run the same command again")  # fmt: skip


def _uploaded(log: Path) -> bool:
    from wandb.cli.cli import cli

    try:
        cli(["sync", str(log)], standalone_mode=False)
    except (
        Exception
    ) as error:  # whatever wandb raises: what it uploads with has ended, so that no other log would fare better
        raise PeaceError(f"wandb cannot sync {log}: {str(error) or type(error).__name__}; run the same command again"
                         ) from error  # fmt: skip
    return _mark(log).exists()


def _mark(log: Path) -> Path:
    """What wandb writes beside a log that it has uploaded."""
    return log.with_suffix(".wandb.synced")
