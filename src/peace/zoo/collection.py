"""Checkpoints that lie in folders, and what a manifest beside them says of each."""

import glob
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peace.errors import InputError
from peace.zoo.checkpoint import CONFIG
from peace.zoo.weight_files import (
    SUFFIXES,
    beside_index,
    is_shard_index,
    is_training_state,
    shard_indices,
    weight_files,
)

MANIFEST = "manifest.jsonl"
TEXTS = ("task", "dataset", "architecture", "family", "modality", "metric", "licence", "source", "run_id", "split")
"""What of a manifest or of a file's own metadata goes with a vector."""
_NO_WEIGHTS = (".json", ".jsonl", ".md", ".txt", ".yaml", ".yml", ".csv")


@dataclass(frozen=True)
class Entry:
    """One checkpoint of a collection.

    Attributes:
        id: Its path relative to where it was looked for.
        path: A file, an index of shards, or a folder.
        size: Bytes of its files.
        changed: When the last of them was written, nanoseconds.
        about: What a manifest beside it says.
    """

    id: str
    path: Path
    size: int
    changed: int
    about: dict[str, str] = field(default_factory=dict)

    def identity(self, embedder: str) -> list[str | int]:
        """Returns what tells an embedder's vector of it from any other; it differs once file or embedder changed."""
        return [str(self.path.resolve()), self.size, self.changed, embedder]


def collection(places: str | Sequence[str]) -> list[Entry]:
    """Returns the checkpoints at some places, sorted by id.

    A folder is searched with all that is below it for files of weights. A folder that holds the index of a checkpoint
    in shards, or one file of weights with a `config.json`, is one checkpoint. Of a model that lies in both formats of
    the Hub the safetensors are taken; the state of a training run is no model. A link that leads nowhere is taken, for
    whoever reads it to say so.

    Args:
        places: Folders, patterns such as `models/*.pt`, files, or a list of such.

    Raises:
        InputError: There is none at one of the places, or two would have the same id.
    """
    found: dict[Path, str] = {}
    for place in [places] if isinstance(places, str) else places:
        here = dict(_at(place))
        if not here:
            raise InputError("no checkpoint", where=f"'{place}'", expected=f"files of weights ({', '.join(SUFFIXES)})",
                             do="name a folder, a file or a pattern such as 'models/*.safetensors'")  # fmt: skip
        found = here | found
    if len(set(found.values())) < len(found):
        found = {path: str(path) for path in found}
    manifests = {folder: _manifest(folder / MANIFEST) for folder in {path.parent for path in found}}
    entries = [_entry(path, name, manifests[path.parent].get(path.name, {})) for path, name in found.items()]
    return sorted(entries, key=lambda entry: entry.id)


def _at(place: str) -> Iterator[tuple[Path, str]]:
    """Yields the checkpoints at a place and their ids."""
    if (root := Path(place)).is_dir():
        yield from ((path, _name(path, root)) for path in _below(root))
        return
    paths = [Path(path) for path in sorted(glob.glob(place, recursive=True))] or [root] * root.is_file()
    fixed = Path(*_takewhile_plain(root.parts[:-1]))
    for path in paths:
        if path.is_dir():
            yield from ((below, _name(below, fixed)) for below in _below(path))
        elif is_shard_index(path) or (path.suffix not in _NO_WEIGHTS and not is_training_state(path)):
            yield path, _name(path, fixed)


def _takewhile_plain(parts: Sequence[str]) -> list[str]:
    plain = []
    for part in parts:
        if glob.has_magic(part):
            break
        plain.append(part)
    return plain


def _name(path: Path, root: Path) -> str:
    return root.resolve().name if path == root else str(path.relative_to(root))


def _below(folder: Path) -> Iterator[Path]:
    """Yields the checkpoints in a folder and below it."""
    inside = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    files, indices = weight_files(folder), shard_indices(folder)
    if len(indices) == 1 or (len(files) == 1 and (folder / CONFIG).is_file()):
        yield folder
    else:
        yield from indices or files
    for path in inside:
        if path.is_dir():
            yield from _below(path)


def _entry(path: Path, name: str, about: dict[str, str]) -> Entry:
    files = _own(path) if path.is_dir() or is_shard_index(path) else [path]
    states = [file.stat() for file in files if file.is_file()]
    return Entry(
        name,
        path,
        sum(state.st_size for state in states),
        max((state.st_mtime_ns for state in states), default=0),
        about,
    )


def _own(path: Path) -> list[Path]:
    """The files beside an index of shards, or in a folder, that could belong to its checkpoint."""
    folder = path if path.is_dir() else path.parent
    return [*(weight_files(path) if path.is_dir() else beside_index(path)), *folder.glob("*.json")]


def _manifest(path: Path) -> dict[str, dict[str, str]]:
    """What a manifest says of each file, by the file's name: one JSON object a line."""
    if not path.is_file():
        return {}
    try:
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return {line["file"]: {key: line[key] for key in TEXTS if isinstance(line.get(key), str)}
                for line in lines if isinstance(line.get("file"), str)}  # fmt: skip
    except (OSError, ValueError, AttributeError) as error:
        raise InputError("cannot read the manifest", where=path, got=str(error).splitlines()[0],
                         expected="a JSON object a line") from error  # fmt: skip
