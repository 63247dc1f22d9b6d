"""Folders that are either whole or absent: written beside their place, then renamed into it."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peace.errors import InputError


@contextmanager
def replacing_folder(folder: str | Path, names: set[str]) -> Iterator[Path]:
    """Yields a new folder beside `folder` that replaces it when the block ends without an error.

    Args:
        folder: The folder to write; its parents are made if they are missing.
        names: The files that such a folder may hold.

    Yields:
        The folder to write to. If the block raises, it is removed and `folder` stays as it was.

    Raises:
        InputError: `folder` is a file, or holds other files, which replacing it would lose.
    """
    folder = Path(folder).resolve()
    _refuse_other_files(folder, names)
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield temporary
        temporary.chmod(0o755)
        _swap(temporary, folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def newest(folder: str | Path) -> Path:
    """Returns where the folder's content lies: its place, or aside if an interruption struck between two renames."""
    folder = Path(folder).resolve()
    aside = _aside(folder)
    return aside if aside.is_dir() and not folder.exists() else folder


def _refuse_other_files(folder: Path, names: set[str]) -> None:
    if folder.exists() and not folder.is_dir():
        raise InputError("not a folder", where=folder, do="choose another path")
    others = sorted({path.name for path in folder.glob("*")} - names)
    if others:
        raise InputError("the folder holds other files", where=folder, got=others[0], do="choose another folder")


def _swap(new: Path, folder: Path) -> None:
    # No rename replaces a folder that holds files, so the old one steps aside, where `newest` still finds it.
    aside = _aside(folder)
    if folder.exists():
        if aside.exists():
            shutil.rmtree(aside)
        folder.rename(aside)
    new.rename(folder)
    shutil.rmtree(aside, ignore_errors=True)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.previous")
