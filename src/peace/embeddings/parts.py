"""Vectors of a part of a zoo, made apart from the others, until all of them are joined to a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peace.embeddings import storage
from peace.errors import InputError

_KIND = "part of an embedding table"


def save_part(path: Path, vectors: Tensor, copies: Tensor, about: Mapping[str, Any]) -> None:
    """Writes one part.

    Args:
        path: The file.
        vectors: Vectors of the part's models. Shape: [g, D].
        copies: Vectors of moved copies of them. Shape: [g, D].
        about: What they were made of and by; parts are joined only where that is equal.
    """
    storage.write(path, _KIND, {"vectors": vectors, "copies": copies}, {}, about)


def join(paths: Sequence[Path], about: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Returns the vectors of all parts in order, and those of the copies. Shape of each: [G, D].

    Args:
        paths: The parts.
        about: What they must have been made of and by.

    Raises:
        InputError: A part is missing, damaged, or was made of or by something else.
    """
    parts = [storage.read(path, _KIND, ["vectors", "copies"], []) for path in paths]
    for path, part in zip(paths, parts, strict=True):
        differing = [key for key in about if part.provenance.get(key) != about[key]]
        if differing:
            key = differing[0]
            raise InputError(f"the part was made with another {key}", where=path, got=part.provenance.get(key),
                             expected=about[key], do="embed it again")  # fmt: skip
    return torch.cat([part.tensors["vectors"] for part in parts]), torch.cat([part.tensors["copies"] for part in parts])
