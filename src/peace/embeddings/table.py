"""The embedding table: one unit vector, its length before and one row of labels per model, in one file."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from pandas import DataFrame
from torch import Tensor

from peace.embeddings import storage
from peace.embeddings.rows import check_rows
from peace.embeddings.similarity import unit_rows
from peace.errors import InputError

_KIND = "embedding table"
_WHERE = f"the {_KIND}"
_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """Unit vectors with their labels and provenance; a table that exists is a valid one.

    Args:
        vectors: One vector of length 1 per model. Shape: [G, D] float32.
        rows: One row per model, with at least `id`, `run_id`, `task`, `architecture` and `split`.
        provenance: What made the vectors; `embedder` holds the hash of the embedder.
        norms: The length that each vector had before it was scaled to 1. Shape: [G] float64.

    Raises:
        InputError: Vectors or rows are not as described.
    """

    vectors: Tensor
    rows: DataFrame
    provenance: dict[str, Any]
    norms: Tensor

    def __post_init__(self) -> None:
        """Checks what the class promises."""
        if self.vectors.ndim != 2 or self.vectors.dtype != torch.float32:
            got = f"{self.vectors.dtype} {list(self.vectors.shape)}"
            raise InputError("wrong vectors", where=_WHERE, got=got, expected="torch.float32 [models, dimension]")
        check_rows(self.rows, len(self.vectors), _WHERE)
        # A comparison with NaN is false, so vectors that are not finite fail it too.
        unit = (self.vectors.norm(dim=1) - 1).abs() < _TOLERANCE
        if not unit.all():
            name = self.rows["id"].iloc[int((~unit).int().argmax())]
            raise InputError(f"the vector of '{name}' has not length 1", where=_WHERE, do="use EmbeddingTable.of")
        if self.norms.dtype != torch.float64 or self.norms.shape != self.vectors.shape[:1]:
            got = f"{self.norms.dtype} {list(self.norms.shape)}"
            raise InputError("wrong norms", where=_WHERE, got=got, expected="torch.float64 [models]")
        if not (self.norms.isfinite() & (self.norms > 0)).all():
            raise InputError("a norm is not a positive number", where=_WHERE, do="use EmbeddingTable.of")

    @classmethod
    def of(cls, vectors: Tensor, rows: DataFrame, provenance: dict[str, Any]) -> "EmbeddingTable":
        """Returns a table of the vectors scaled to length 1, which keeps how long they were.

        Args:
            vectors: Any floating dtype and device. Shape: [G, D].
            rows: One row per model, in the same order.
            provenance: What made the vectors; what JSON can hold.

        Raises:
            InputError: A vector is zero or not finite, an id occurs twice, a column is missing, or rows are too many
                or too few.
        """
        if vectors.ndim != 2:
            raise InputError("wrong vectors", where=_WHERE, got=list(vectors.shape), expected="[models, dimension]")
        check_rows(rows, len(vectors), _WHERE)
        units = unit_rows(vectors, rows["id"].tolist())
        return cls(units, storage.as_stored(rows), dict(provenance), vectors.detach().cpu().double().norm(dim=1))

    def __len__(self) -> int:
        """Returns the number of models."""
        return len(self.rows)

    @property
    def raw(self) -> Tensor:
        """The vectors as they were before they were scaled, up to single precision. Shape: [G, D] float32."""
        return (self.vectors * self.norms[:, None]).float()

    @cached_property
    def hash(self) -> str:
        """The sha256 of vectors, norms and rows, as hexadecimal digits; provenance is not part of it."""
        return storage.content_hash([self.vectors, self.norms], [self.rows])

    def select(self, mask_or_positions: ArrayLike | Tensor) -> "EmbeddingTable":
        """Returns the table of some of the models.

        Args:
            mask_or_positions: One boolean per model, or the positions of the models in the order wanted.
        """
        positions = np.arange(len(self))[mask_or_positions]
        return EmbeddingTable(
            self.vectors[torch.from_numpy(positions)],
            self.rows.iloc[positions].reset_index(drop=True),
            self.provenance,
            self.norms[torch.from_numpy(positions)],
        )

    def save(self, path: str | Path) -> None:
        """Writes the table to one safetensors file, which is whole or absent at any time."""
        tensors = {"vectors": self.vectors, "norms": self.norms}
        storage.write(path, _KIND, tensors, {"rows": self.rows}, self.provenance)

    @classmethod
    def load(cls, path: str | Path) -> "EmbeddingTable":
        """Returns the table in a file.

        Raises:
            InputError: The file is missing, truncated or damaged, or holds something else.
        """
        content = storage.read(path, _KIND, ["vectors", "norms"], ["rows"])
        try:
            return cls(**content.tensors, **content.frames, provenance=content.provenance)
        except InputError as error:
            raise InputError(f"damaged {_KIND}", where=path, got=str(error).rstrip("."), do="make it again") from error
