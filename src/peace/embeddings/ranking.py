"""The ranking: what a method that yields no vectors hands to the evaluation, such as BM25 over model cards."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pandas import DataFrame
from torch import Tensor

from peace.embeddings import storage
from peace.embeddings.rows import check_rows
from peace.errors import InputError

_KIND = "ranking"
_BLOCK = 2**22


@dataclass(frozen=True, eq=False)
class Ranking:
    """The whole gallery in the order in which each query prefers it.

    Args:
        order: Gallery positions, best first, each exactly once per query. Shape: [Q, G] int64.
        queries: One row per query, with at least `id`, `run_id`, `task`, `architecture` and `split`.
        gallery: One row per gallery model, with the same columns.
        provenance: What made the ranking.

    Raises:
        InputError: The order or the rows are not as described.
    """

    order: Tensor
    queries: DataFrame
    gallery: DataFrame
    provenance: dict[str, Any]

    def __post_init__(self) -> None:
        """Checks what the class promises."""
        if self.order.ndim != 2 or self.order.dtype != torch.int64:
            got = f"{self.order.dtype} {list(self.order.shape)}"
            raise InputError("wrong order", where="the ranking", got=got, expected="torch.int64 [queries, gallery]")
        check_rows(self.queries, self.order.shape[0], "the queries of the ranking")
        check_rows(self.gallery, self.order.shape[1], "the gallery of the ranking")
        every = torch.arange(self.order.shape[1])
        for start in range(0, len(self.order), step := max(1, _BLOCK // max(1, len(every)))):
            whole = (self.order[start : start + step].sort(dim=1).values == every).all(dim=1)
            if not whole.all():
                name = self.queries["id"].iloc[start + int((~whole).int().argmax())]
                raise InputError(f"the order of query '{name}' does not hold every gallery position once")

    def save(self, path: str | Path) -> None:
        """Writes the ranking to one safetensors file, which is whole or absent at any time."""
        frames = {"queries": storage.as_stored(self.queries), "gallery": storage.as_stored(self.gallery)}
        storage.write(path, _KIND, {"order": self.order}, frames, self.provenance)

    @classmethod
    def load(cls, path: str | Path) -> "Ranking":
        """Returns the ranking in a file.

        Raises:
            InputError: The file is missing, truncated or damaged, or holds something else.
        """
        content = storage.read(path, _KIND, ["order"], ["queries", "gallery"])
        try:
            return cls(content.tensors["order"], **content.frames, provenance=content.provenance)
        except InputError as error:
            raise InputError(f"damaged {_KIND}", where=path, got=str(error).rstrip("."), do="make it again") from error
