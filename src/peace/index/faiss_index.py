"""Nearest neighbours of a vector in an embedding table, by FAISS: exactly, or nearly so and faster."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pandas import DataFrame
from torch import Tensor

from peace.embeddings.rows import check_rows
from peace.embeddings.similarity import unit_rows
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError, PeaceError
from peace.index.folder import newest, replacing_folder
from peace.index.kinds import KINDS
from peace.index.recall import own_recall
from peace.provenance import file_hash

# Two OpenMP runtimes in one process can crash it; loaded after torch, FAISS finds the one of torch.
import faiss  # isort: skip

Node = Mapping[str, Any]
EXACT: Node = {"name": "exact"}

_VECTORS, _ROWS, _ABOUT = "index.faiss", "rows.parquet", "index.json"
_UNREADABLE = (OSError, RuntimeError, KeyError, TypeError, ValueError)


class FaissIndex:
    """Unit vectors that are searched by inner product, with the rows that belong to them.

    Made by `build` or `load`.

    Attributes:
        rows: One row per model, at the position that `search` returns.
        table_hash: The hash of the embedding table that was indexed.
        embedder: The hash of the embedder that made the table.
        kind: Name and arguments of how it searches.
        recall: Recall@10 against exact search, of a sample of its own models; 1 where it is exact.
    """

    def __init__(
        self, index: "faiss.Index", rows: DataFrame, table_hash: str, embedder: str, kind: Node, recall: float
    ) -> None:
        """Keeps what `build` or `load` made."""
        self._index = index
        self.rows = rows
        self.table_hash = table_hash
        self.embedder = embedder
        self.kind = kind
        self.recall = recall

    @classmethod
    def build(cls, table: EmbeddingTable, kind: Node = EXACT) -> "FaissIndex":
        """Returns the index of a table.

        Args:
            table: Vectors and rows.
            kind: Name and arguments of how it is to be searched, see `peace.index.kinds`.

        Raises:
            InputError: The table is empty or does not fit the kind, or its provenance does not say which embedder made
                it.
        """
        if not len(table):
            raise InputError("no models to index", where="an empty embedding table", do="embed a zoo that holds models")
        if not isinstance(embedder := table.provenance.get("embedder"), str):
            raise InputError("no 'embedder' in the provenance of the embedding table", do="make it with `peace embed`")
        chosen = KINDS.build(kind)
        index = chosen.build(table.vectors)
        recall = 1.0 if chosen.exact else own_recall(index, table.vectors)
        return cls(index, table.rows, table.hash, embedder, dict(kind), recall)

    @property
    def dimension(self) -> int:
        """The number of entries of a vector."""
        return self._index.d

    def __len__(self) -> int:
        """Returns the number of models."""
        return self._index.ntotal

    def require_embedder(self, embedder: str) -> None:
        """Refuses queries of another embedder, whose vectors mean something else.

        Raises:
            InputError: `embedder` is not the hash of the embedder that made the index.
        """
        if embedder != self.embedder:
            raise InputError(
                "index made with another encoder",
                got=self.embedder[:12],
                expected=embedder[:12],
                do="search with that encoder, or make the index again with this one",
            )

    def search(self, vectors: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Returns the cosines and positions of the k nearest models, the nearest first.

        Args:
            vectors: Queries of any length but zero. Shape: [Q, D].
            k: How many neighbours; K is this number, or that of all models if they are fewer.

        Raises:
            InputError: The queries have another dimension, one is zero or not finite, or k is below 1.

        Shape:
            [Q, D] to [Q, K] float32 and [Q, K] int64.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            expected = f"[queries, {self.dimension}]"
            raise InputError("queries of another dimension than the index", got=list(vectors.shape), expected=expected)
        if k < 1:
            raise InputError("too few neighbours", got=k, expected="1 or more")
        queries = unit_rows(vectors, [f"query {place}" for place in range(len(vectors))])
        similarities, positions = self._index.search(queries.numpy(), min(k, len(self)))
        if (positions < 0).any():
            raise PeaceError("the index found fewer neighbours than were asked for; ask for fewer, or make it again "
                             "with more probes, candidates or a wider beam")  # fmt: skip
        if self._index.metric_type == faiss.METRIC_L2:
            similarities = 1 - similarities / 2
        return torch.from_numpy(similarities), torch.from_numpy(positions)

    def save(self, folder: str | Path) -> None:
        """Writes the folder of the index; one that is there is replaced only when the new one is whole.

        Raises:
            InputError: The path is a file, or a folder with files that do not belong to an index.
        """
        with replacing_folder(folder, {_VECTORS, _ROWS, _ABOUT}) as new:
            faiss.write_index(self._index, str(new / _VECTORS))
            pq.write_table(pa.Table.from_pandas(self.rows, preserve_index=False), new / _ROWS)
            about = {
                "dimension": self.dimension,
                "count": len(self),
                "table": self.table_hash,
                "embedder": self.embedder,
                "kind": self.kind,
                "recall@10": self.recall,
                "sha256": {name: file_hash(new / name) for name in (_VECTORS, _ROWS)},
            }
            (new / _ABOUT).write_text(json.dumps(about, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> "FaissIndex":
        """Returns the index in a folder that `save` wrote.

        Raises:
            InputError: The folder is missing, or a file in it is missing or damaged.
        """
        place = newest(folder)
        if not place.is_dir():
            raise InputError("there is no index", where=folder, do="check the path, or make one with `peace index`")
        try:
            return cls(*_read(place))
        except (InputError, pa.ArrowException, *_UNREADABLE) as error:
            got = str(error).partition("\n")[0].rstrip(".")
            raise InputError("damaged index", where=folder, got=got, do="make it again with `peace index`") from error


def _read(place: Path) -> tuple["faiss.Index", DataFrame, str, str, Node, float]:
    about = json.loads((place / _ABOUT).read_text())
    # FAISS trusts what it reads, so the bytes are compared before it sees them.
    for name in (_VECTORS, _ROWS):
        if file_hash(place / name) != about["sha256"][name]:
            raise ValueError(f"{name} has another sha256 than {_ABOUT} says")
    index = faiss.read_index(str(place / _VECTORS))
    # An index of before there were several kinds says none.
    kind = about.get("kind", EXACT)
    described = [about["dimension"], about["count"]]
    if not isinstance(index, KINDS.get(kind["name"]).made) or [index.d, index.ntotal] != described:
        raise ValueError(f"{_VECTORS} is not the index that {_ABOUT} describes")
    rows = pq.read_table(place / _ROWS).to_pandas()
    check_rows(rows, index.ntotal, _ROWS)
    return index, rows, str(about["table"]), str(about["embedder"]), kind, float(about.get("recall@10", 1.0))
