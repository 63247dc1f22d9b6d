"""Experiments: folders below `experiments`, at any depth, called by their path from there, such as `paper/table1`."""

import re
from pathlib import Path

from peace.errors import InputError

_CHARACTERS = "letters, digits and _ @ + = , - ."


def plain_name(text: object, what: str) -> str:
    """Returns the text, if it may name a folder.

    Raises:
        InputError: It may not: it is no text, is empty, begins with a dot or holds another character.
    """
    if not isinstance(text, str) or not re.fullmatch(r"[\w@+=,-][\w@+=,.-]*", text, re.ASCII):
        raise InputError(f"not the name of {what}", got=repr(text), expected=_CHARACTERS)
    return text


def experiment_name(text: object) -> str:
    """Returns the text, if it may name an experiment: plain names of folders, joined by `/`.

    Raises:
        InputError: It may not, as `../x`, `/x` and `x//y`.
    """
    try:
        return "/".join(plain_name(part, "a folder") for part in text.split("/"))  # type: ignore[attr-defined]
    except (AttributeError, InputError) as error:
        expected = f"names of folders joined by /, each of {_CHARACTERS}"
        raise InputError("not the name of an experiment", got=repr(text), expected=expected) from error


def experiments_with(root: Path, file: str) -> list[str]:
    """Returns the names of the experiments that have a file, such as `table.yaml`, in their order.

    Args:
        root: The folder of all experiments.
        file: Its name.
    """
    return sorted(path.parent.relative_to(root).as_posix() for path in root.glob(f"*/**/{file}"))
