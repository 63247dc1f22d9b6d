"""Experiments: folders below `experiments`, at any depth, called by their path from there, such as `paper/table1`."""

import re
from pathlib import Path

from peace.errors import InputError

CONFIG = "config.yaml"
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


def find_experiment(given: str, root: Path) -> tuple[str, Path] | None:
    """Returns the name of an experiment and its `config.yaml`; None where nothing is found.

    A folder elsewhere is called by what follows `experiments` in its path, or else by its own name.

    Args:
        given: A folder, or an experiment's name, with or without `experiments/` before it.
        root: The folder of all experiments.

    Raises:
        InputError: There is such a folder, but it has no `config.yaml`, or its name cannot be an experiment's.
    """
    root = root.resolve()
    named = (root / Path(given).as_posix().removeprefix("experiments/")).resolve()
    places = [Path(given).resolve(), *([named] if named.is_relative_to(root) else [])]
    found = [place for place in places if place.is_dir()]
    with_config = [place for place in found if (place / CONFIG).is_file()]
    if found and not with_config:
        raise InputError(f"no {CONFIG}", where=found[-1], do="name an experiment that has one, or give key=value words")
    if not with_config:
        return None
    return experiment_name(_name(with_config[0], root)), with_config[0] / CONFIG


def _name(place: Path, root: Path) -> str:
    if place.is_relative_to(root):
        return place.relative_to(root).as_posix()
    _, below, rest = place.as_posix().rpartition("/experiments/")
    return rest if below else place.name
