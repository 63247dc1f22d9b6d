"""A zoo on disk: `manifest.parquet` and stacked tensors in `weights/*.safetensors`. Opening one reads no tensor."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow
import torch
from safetensors.torch import save_file
from torch import Tensor

from peace.atomic import replacing
from peace.errors import InputError, did_you_mean
from peace.zoo.readers import open_tensors
from peace.zoo.record import ModelRecord, completed, record

MANIFEST = "manifest.parquet"


class Zoo:
    """A folder of models.

    Args:
        folder: Where it lies.
        rows: The manifest, a row a model.
    """

    def __init__(self, folder: Path, rows: pd.DataFrame) -> None:
        self.folder, self.rows = folder, rows

    @classmethod
    def open(cls, folder: str | Path) -> "Zoo":
        """Returns the zoo in a folder, reading its manifest only.

        Raises:
            InputError: There is no manifest, it cannot be read, lacks a column, or lists no model.
        """
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise InputError("no zoo", where=folder, expected=MANIFEST, do="make one with `peace zoo train NAME`")
        try:
            rows = completed(pd.read_parquet(path))
        except (pyarrow.ArrowException, OSError, ValueError) as error:
            raise InputError("cannot read the manifest", where=path, got=str(error).splitlines()[0]) from error
        missing = {field.name for field in fields(ModelRecord)} - set(rows.columns)
        if missing:
            raise InputError("the manifest lacks columns", where=path, got=sorted(missing), expected="none missing")
        if rows.empty:
            raise InputError(
                "the zoo is empty", where=path, got="0 models", expected="at least one", do="train it again"
            )
        return cls(Path(folder), rows)

    @property
    def hash(self) -> str:
        """The sha256 of what its models are: ids, tensors, tasks, splits, in order of id."""
        columns = self.rows[["id", "sha256", "task", "split", "status"]].sort_values("id")
        return hashlib.sha256(columns.to_csv(index=False).encode()).hexdigest()

    def record(self, model_id: str) -> ModelRecord:
        """Returns the record of one model.

        Raises:
            InputError: The zoo has no such model.
        """
        found = self.rows[self.rows["id"] == model_id]
        if found.empty:
            raise InputError(f"no model '{model_id}'", where=self.folder, do=did_you_mean(model_id, self.rows["id"]))
        return record({str(key): value for key, value in found.iloc[0].to_dict().items()})

    def weights(self, rows: pd.DataFrame) -> dict[str, Tensor]:
        """Returns the tensors of these models, stacked in the rows' order.

        Args:
            rows: Rows of the manifest, all of one architecture.

        Returns:
            Tensors by name. Shape of each: [len(rows), *shape].

        Raises:
            InputError: A file is missing or damaged, or the rows are of several architectures.
        """
        if rows["architecture_config"].nunique() > 1:
            raise InputError("models of several architectures do not stack", got=sorted(rows["architecture"].unique()))
        stacked: dict[str, Tensor] = {}
        place = pd.Series(range(len(rows)), index=rows.index)
        for file, part in rows.groupby("weights_file", sort=False):
            indices = torch.tensor(part["weights_index"].tolist())
            for name, tensor in self._read(str(file), indices).items():
                if name not in stacked:
                    stacked[name] = tensor.new_empty(len(rows), *tensor.shape[1:])
                stacked[name][torch.tensor(place[part.index].tolist())] = tensor
        return stacked

    def _read(self, file: str, indices: Tensor) -> dict[str, Tensor]:
        path = self.folder / "weights" / file
        try:
            # Mapped: of a large stack only the models asked for are read.
            return {name: tensor[indices] for name, tensor in open_tensors(path).items()}
        except (OSError, InputError, IndexError) as error:
            raise InputError(
                "cannot read the zoo's weights", where=path, got=str(error), do="run `peace zoo verify` on the zoo"
            ) from error

    def by_architecture(self, rows: pd.DataFrame | None = None) -> Iterable[pd.DataFrame]:
        """Returns the rows (all, if none are given) in one frame per architecture, in a fixed order."""
        rows = self.rows if rows is None else rows
        return [part for _, part in rows.groupby("architecture_config", sort=True)]

    def verify(self) -> list[str]:
        """Returns one sentence for each thing that is wrong with the zoo; none if it is whole.

        Every tensor is read and hashed; ids must be unique, splits disjoint by run.
        """
        wrong = [f"id {name} is listed twice" for name in self.rows["id"][self.rows["id"].duplicated()]]
        splits = self.rows.groupby("run_id")["split"].nunique()
        wrong += [f"run {run} is in several splits" for run in splits[splits > 1].index]
        for _, part in self.rows.groupby(["weights_file", "architecture_config"]):
            try:
                stacked = self.weights(part)
            except InputError as error:
                wrong.append(str(error))
                continue
            hashes = zip(part["id"], part["sha256"], tensor_hashes(stacked), strict=True)
            wrong += [f"model {name} in {part['weights_file'].iloc[0]} does not match its sha256"
                      for name, expected, found in hashes if found != expected]  # fmt: skip
        return wrong


def usable(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the rows of models that did not diverge."""
    return rows[rows["status"] == "ok"]


def last_checkpoints(rows: pd.DataFrame) -> pd.DataFrame:
    """Returns the last checkpoint of each run."""
    return rows[rows["epoch"] == rows.groupby("run_id")["epoch"].transform("max")]


def tensor_hashes(stacked: Mapping[str, Tensor]) -> list[str]:
    """Returns the sha256 of each state dict of a stack: name, type, shape and bytes of its tensors, in order of name.

    Args:
        stacked: Tensors by name. Shape of each: [M, *shape].
    """
    parts = []
    for name, tensor in sorted(stacked.items()):
        header = json.dumps([name, str(tensor.dtype), list(tensor.shape[1:])]).encode()
        rows = tensor.reshape(len(tensor), math.prod(tensor.shape[1:])).contiguous()
        # As arrays: a slice of a tensor takes longer than its hash, and lets another thread in each time.
        parts.append((header, rows.view(torch.uint8).numpy()))
    return [_digest((header, rows[place]) for header, rows in parts) for place in range(len(parts[0][1]))]


def _digest(parts: Iterable[tuple[bytes, np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for header, row in parts:
        digest.update(header)
        digest.update(row)
    return digest.hexdigest()


def write_stack(folder: Path, file: str, tensors: Mapping[str, Tensor]) -> None:
    """Writes stacked tensors as `weights/<file>` of a zoo, whole or not at all."""
    with replacing(folder / "weights" / file) as path:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)


def write_manifest(folder: Path, rows: pd.DataFrame) -> Zoo:
    """Writes a zoo's manifest and returns the zoo; its weights must be there already."""
    with replacing(folder / MANIFEST) as path:
        rows.to_parquet(path, index=False)
    return Zoo.open(folder)
