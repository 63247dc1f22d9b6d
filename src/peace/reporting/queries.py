"""The scores of single queries beside a record, from which a difference between two rows can be tested.

One safetensors file a record: a float32 tensor [Q] for each metric that is a mean over queries, by the metric's name,
the queries in the order of their ids. Its metadata has one key, since safetensors orders several as it likes; its value
is JSON and says of each protocol, the part of a metric's name before the last `/`, the sha256 of the ids. Rows may be
paired where these are equal.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pandas import Series
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from peace.atomic import replacing
from peace.errors import InputError
from peace.reporting.schema import Checked

_KEY = "peace.queries"
_AGREEMENT = 1e-4


class QueryFile(Checked):
    """What a record says of the file beside it: its name and its sha256."""

    file: Annotated[str, Field(pattern=r"^[^/\\]+$")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


@dataclass(frozen=True)
class QueryScores:
    """The scores of a record's queries.

    Attributes:
        values: One score a query, in the order of the queries' ids, by metric. Shape: [Q] float32 each.
        ids: The sha256 of those ids, one a line, by protocol.
    """

    values: dict[str, Tensor]
    ids: dict[str, str]

    def ids_of(self, metric: str) -> str:
        """Returns the sha256 of the ids of a metric's queries."""
        return self.ids[protocol(metric)]


def protocol(metric: str) -> str:
    """Returns the part of a metric's name that says which queries it is a mean over, `seen` of `seen/precision@5`."""
    return metric.rpartition("/")[0]


def queries_path(record: Path) -> Path:
    """Returns where the scores of a record's queries lie, `<stem of the record>.queries.safetensors` beside it."""
    return record.with_suffix(".queries.safetensors")


def write_queries(record: Path, scores: Mapping[str, Series]) -> QueryFile:
    """Writes the scores of a record's queries beside it, and returns the file's name and sha256.

    The same scores give the same bytes.

    Args:
        record: The record's path.
        scores: The score of each query by its id, for each metric. Metrics of one protocol have the same queries.

    Raises:
        InputError: Two metrics of one protocol have different queries, or an id occurs twice.
    """
    ids: dict[str, str] = {}
    tensors: dict[str, Tensor] = {}
    for metric, each in scores.items():
        ordered = each.sort_index()
        digest = hashlib.sha256("\n".join(ordered.index).encode()).hexdigest()
        if ordered.index.has_duplicates or ids.setdefault(protocol(metric), digest) != digest:
            raise InputError(
                "queries named twice, or not those of the other metrics", where=f"the scores of '{metric}'"
            )
        tensors[metric] = torch.tensor(ordered.to_numpy(), dtype=torch.float32)
    content = save(tensors, metadata={_KEY: json.dumps(ids, sort_keys=True)})
    path = queries_path(record)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
    return QueryFile(file=path.name, sha256=hashlib.sha256(content).hexdigest())


def read_queries(record: Path, named: QueryFile, means: Mapping[str, float]) -> QueryScores:
    """Returns the scores in the file that a record names.

    Args:
        record: The record's path.
        named: What the record says of the file.
        means: The record's metrics.

    Raises:
        InputError: The file is missing, is another one, is damaged, or its means are not the record's.
    """
    path, again = record.parent / named.file, "run `peace evaluate` with the record's words again"
    if not path.is_file():
        raise InputError("the scores of a record's queries are missing", where=path, do=again)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != named.sha256:
        raise InputError("the scores are not those of the record's queries", where=path, got="another sha256", do=again)
    try:
        values = load(content)
        length = int.from_bytes(content[:8], "little")
        ids = dict(json.loads(json.loads(content[8 : 8 + length])["__metadata__"][_KEY]))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise InputError("cannot read the scores of a record's queries", where=path, got=error, do=again) from error
    for metric, each in values.items():
        mean = each.double().mean().item()
        if protocol(metric) not in ids or metric not in means or not _near(mean, means[metric]):
            got = f"{means.get(metric)} in the record and {mean:g} over the queries"
            raise InputError(f"two means of '{metric}'", where=path, got=got, do=again)
    return QueryScores(values, ids)


def _near(mean: float, told: float) -> bool:
    return abs(mean - told) <= _AGREEMENT * max(abs(told), 1e-3)
