"""Folders that one process at a time may write to."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

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
        if not locked(file, f"{kind}: {folder}"):
            raise PeaceError(
                f"another process is writing to this {kind}: {folder}; run the same command again when it has ended"
            )
        yield


def locked(file: IO[str], what: str, shared: bool = False) -> bool:
    """Returns whether a file's lock was free; it is then held until the file is closed.

    Args:
        file: The file.
        what: What it stands for, and where that lies.
        shared: Whether others may hold it in the same way.

    Raises:
        PeaceError: The file system cannot tell.
    """
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        raise PeaceError(
            f"the file system cannot lock this {what} ({error.strerror}); put it on one that can, as flock does it"
        ) from error
