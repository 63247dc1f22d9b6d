"""Folders that one process at a time may write to."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peace.errors import PeaceError


@contextmanager
def exclusive(folder: Path, kind: str = "run directory") -> Iterator[None]:
    """Holds a block in which no other process holds the same folder; the system frees it however the process ends.

    Args:
        folder: What is held; it is made if it is missing. Its file `.lock` stays, because whoever deletes it would let
            two processes hold two files of that name.
        kind: What people call it.

    Raises:
        PeaceError: Another process holds it, or the file system cannot tell.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PeaceError(
                f"another process is writing to this {kind}: {folder}; run the same command again when it has ended"
            ) from error
        except OSError as error:
            raise PeaceError(
                f"the file system cannot lock this {kind}: {folder} ({error.strerror}); "
                "put it on one that can, as flock does it"
            ) from error
        yield
