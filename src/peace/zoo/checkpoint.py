"""A checkpoint and what travels with it: names, shapes and types of its tensors, its metadata, its `config.json`."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from peace.errors import InputError
from peace.zoo.readers import read_shapes, read_state_dict
from peace.zoo.storage import Zoo
from peace.zoo.weight_files import SUFFIXES, is_shard_index, shard_index, weight_files

CONFIG = "config.json"


@dataclass(frozen=True)
class Checkpoint:
    """The outside of a checkpoint; none of its numbers is read.

    Attributes:
        path: The file or folder, as a person would name it.
        files: The files that hold its tensors.
        tensors: Every tensor by name, on the meta device.
        metadata: Text of the safetensors header, or what a zoo's manifest says.
        config: The folder's `config.json`, if there is one.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]
    config: Mapping[str, Any] | None = None

    @property
    def floats(self) -> dict[str, tuple[int, ...]]:
        """Shapes of the floating-point tensors by name."""
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items() if tensor.is_floating_point()}

    def weights(self) -> dict[str, Tensor]:
        """Returns the floating-point tensors themselves, see `read_state_dict`."""
        return {name: tensor for file in self.files for name, tensor in read_state_dict(file)[0].items()}


def open_checkpoint(path: str | Path) -> Checkpoint:
    """Returns a checkpoint file, or a folder of weights with its `config.json`.

    A folder holds one file of weights, or several that an index of the Hub lists (`*.safetensors.index.json`, or
    `*.bin.index.json` for torch files); safetensors go before torch files, and the state of a training run is no
    weights. A file given by its own name is taken alone: what lies beside it may belong to another.

    Args:
        path: A file that `read_state_dict` can read, an index of shards, or such a folder.

    Raises:
        InputError: There is nothing, no or several files of weights, an index lists a tensor that no shard holds, or a
            file or `config.json` cannot be read.
    """
    path = Path(path)
    index = shard_index(path) if path.is_dir() else path if is_shard_index(path) else None
    promised = _promised(index) if index else {}
    files = _shards(index, promised) if index else (_only(path) if path.is_dir() else path,)
    tensors: dict[str, Tensor] = {}
    metadata: dict[str, str] = {}
    for file in files:
        found, about = read_shapes(file)
        tensors |= found
        metadata |= about
    if missing := next((name for name in promised if name not in tensors), None):
        raise InputError("tensors are missing", where=index, got=f"'{missing}', which none of its files holds",
                         do="download the files again")  # fmt: skip
    return Checkpoint(path, files, tensors, metadata, _config(path / CONFIG) if path.is_dir() else None)


def zoo_checkpoint(zoo: Zoo, model: str) -> Checkpoint:
    """Returns a model of a zoo as a checkpoint whose metadata says its architecture.

    Raises:
        InputError: The zoo has no such model.
    """
    record = zoo.record(model)
    stacked = zoo.weights(zoo.rows[zoo.rows["id"] == model])
    tensors = {
        name: torch.empty(tensor.shape[1:], dtype=tensor.dtype, device="meta") for name, tensor in stacked.items()
    }
    about = {"architecture": record.architecture, "architecture_config": record.architecture_config}
    return Checkpoint(zoo.folder / model, (), tensors, about)


def _only(folder: Path) -> Path:
    found = weight_files(folder)
    files = [file for file in found if file.suffix == ".safetensors"] or found
    if len(files) != 1:
        names = ", ".join(file.name for file in files[:3]) + (f" and {len(files) - 3} more" if len(files) > 3 else "")
        got = f"{names}: several files of weights" if files else "no file of weights"
        raise InputError("not the folder of a checkpoint", where=folder, got=got,
                         expected=f"one of {', '.join(SUFFIXES)}", do="name the file itself")  # fmt: skip
    return files[0]


def _shards(index: Path, promised: Mapping[str, str]) -> tuple[Path, ...]:
    # A name with a folder in it could point anywhere.
    return tuple(index.parent / Path(name).name for name in sorted(set(promised.values())))


def _promised(index: Path) -> dict[str, str]:
    """The file of each tensor that an index lists."""
    names = _object(index).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise InputError("not an index of shards", where=index, expected="a 'weight_map' of tensor names to files")
    return names


def _config(path: Path) -> Mapping[str, Any] | None:
    return _object(path) if path.is_file() else None


def _object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("cannot read JSON", where=path, got=str(error).splitlines()[0]) from error
    if not isinstance(found, dict):
        raise InputError("cannot read JSON", where=path, got=f"a {type(found).__name__}", expected="an object")
    return found
