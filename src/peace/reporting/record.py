"""The record of one run: its metrics beside their chance levels, and what they came from.

A record is one JSON file of 1 to 4 KB at `<root>/<experiment>/<row label>/seed<k>.json`, beside it, where metrics are
means over queries, the file of the single queries' scores that it names. Records are committed; tables are derived from
them and from nothing else.
"""

import json
import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import quote

from pandas import Series
from pydantic import ConfigDict, Field, JsonValue, field_validator, model_validator

from peace.atomic import replacing
from peace.errors import InputError
from peace.experiments import experiment_name
from peace.provenance import now
from peace.reporting.queries import QueryFile, QueryScores, queries_path, read_queries, write_queries
from peace.reporting.schema import Checked, broken_rule

_RECORDS = "*/seed*.json"
Amount = int | float | str


@dataclass(frozen=True)
class Metric:
    """One number of a run.

    Args:
        value: The metric.
        chance: What a producer that knows nothing would reach on the same queries and gallery.
        low: Lower bound of the 95 % interval.
        high: Upper bound of the 95 % interval.
    """

    __pydantic_config__ = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)

    value: float
    chance: float | None = None
    low: float | None = None
    high: float | None = None


class Record(Checked):
    """What one run of one row with one seed reached, as `read_records` returns it.

    Records of before there were any have no `date`; those whose metrics are no means over queries, no `queries`.
    """

    experiment: str
    row: Annotated[dict[str, Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    seed: Annotated[int, Field(ge=0)]
    metrics: Annotated[dict[str, Metric], Field(min_length=1)]
    counts: dict[str, int]
    git_commit: str
    versions: dict[str, str]
    device: str
    zoo: str
    config: str
    seconds: Annotated[float, Field(ge=0)]
    notes: dict[str, JsonValue]
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")] | None = None
    queries: QueryFile | None = None

    @property
    def scale(self) -> dict[str, Amount]:
        """At which scale the run was made, such as `{"models": 1000}`: what its notes say under `scale`."""
        return self.notes.get("scale", {})  # type: ignore[return-value]

    @field_validator("notes")
    @classmethod
    def _checked_notes(cls, notes: dict[str, JsonValue]) -> dict[str, JsonValue]:
        try:
            json.dumps(notes, allow_nan=False)
        except ValueError as error:
            raise broken_rule("a number that is not finite") from error
        scale = notes.get("scale", {})
        if not isinstance(scale, dict) or any(type(amount) not in (int, float, str) for amount in scale.values()):
            raise broken_rule("a scale that is no mapping from names to numbers or text")
        return notes

    @model_validator(mode="after")
    def _bounds_in_pairs(self) -> Self:
        for name, metric in self.metrics.items():
            if (metric.low is None) != (metric.high is None):
                raise broken_rule(f"metric '{name}' has one bound of its interval but not the other")
            if metric.low is not None and metric.high is not None and metric.low > metric.high:
                raise broken_rule(f"metric '{name}' has its lower bound above its upper bound")
        return self


def row_label(row: Mapping[str, str]) -> str:
    """Returns the folder name of a row: its values in the order of their keys, joined by `,`.

    What a file name may not hold is percent-encoded, so two rows of one sweep never share a folder.

    Raises:
        InputError: The row, or one of its values, is empty.
    """
    if not row or not all(row.values()):
        raise InputError("a row needs at least one value and no empty one", got=dict(row))
    label = ",".join(quote(row[key], safe="@+=") for key in sorted(row))
    return f"%2E{label[1:]}" if label.startswith(".") else label


def record_path(root: Path, experiment: str, row: Mapping[str, str], seed: int) -> Path:
    """Returns `root/<experiment>/<row label>/seed<k>.json`, where that record lies or would lie."""
    return _folder(root, experiment) / row_label(row) / f"seed{seed}.json"


def _folder(root: Path, experiment: str) -> Path:
    return Path(root) / experiment_name(experiment)


def write_record(
    root: Path,
    experiment: str,
    row: dict[str, str],
    seed: int,
    metrics: dict[str, Metric],
    counts: dict[str, int],
    provenance: dict[str, Any],
    seconds: float,
    notes: dict[str, Any] | None = None,
    queries: Mapping[str, Series] | None = None,
) -> Path:
    """Writes one record whole or not at all and returns its path; a record of the same row and seed is replaced.

    Its `date` is that of now, unless `provenance` tells another.

    Args:
        root: The folder of all records.
        experiment: Name of the experiment, a folder below `root`.
        row: The row of the table that the run belongs to, such as `{"method": "peace"}`.
        seed: Seed of the run.
        metrics: At least one metric by name; numbers are kept to six significant digits.
        counts: How many models, queries, classes and so on stand behind the metrics.
        provenance: `git_commit`, `versions`, `device`, `zoo` (its hash) and `config` (its fingerprint).
        seconds: How long the run took.
        notes: Anything else of which JSON can tell, such as the recall of an approximate index. Its `scale`, numbers or
            text by name, is printed under the table.
        queries: The scores of single queries by their ids, for the metrics that are means of them.

    Raises:
        InputError: A number is not finite, provenance is incomplete, or a bound of an interval stands alone.
    """
    path = record_path(root, experiment, row, seed)
    content = (
        {"date": now()}
        | provenance
        | {
            "experiment": experiment,
            "row": row,
            "seed": operator.index(seed),
            "metrics": {name: _given(metric) for name, metric in metrics.items()},
            "counts": {name: operator.index(count) for name, count in counts.items()},
            "seconds": float(seconds),
            "notes": notes or {},
        }
    )
    Record.parse(_text(_rounded(content)), path)
    if queries:
        content["queries"] = write_queries(path, queries).model_dump()
    with replacing(path) as temporary:
        temporary.write_bytes(_text(_rounded(content)))
    if not queries:
        queries_path(path).unlink(missing_ok=True)
    return path


def _given(metric: Metric) -> dict[str, float]:
    return {name: float(number) for name, number in asdict(metric).items() if number is not None}


def _rounded(content: Any) -> Any:  # noqa: ANN401 - any JSON value
    if isinstance(content, dict):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_rounded(value) for value in content]
    return float(f"{content:.6g}") if isinstance(content, float) else content


def _text(content: dict[str, Any]) -> bytes:
    lines = [
        f"  {json.dumps(key)}: {_block(value) if key == 'metrics' else _line(value)}"
        for key, value in sorted(content.items())
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _block(metrics: dict[str, Any]) -> str:
    return "{\n" + ",\n".join(f"    {json.dumps(name)}: {_line(metrics[name])}" for name in sorted(metrics)) + "\n  }"


def _line(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def recorded(root: Path, experiment: str) -> bool:
    """Returns whether an experiment has any record."""
    return any(_folder(root, experiment).glob(_RECORDS))


def read_records(root: Path, experiment: str) -> list[Record]:
    """Returns every record of an experiment, sorted by row label and seed.

    Raises:
        InputError: There is none, or one is unreadable, incomplete, of the wrong type, not finite or misplaced.
    """
    folder = _folder(root, experiment)
    records = [_read(path, root, experiment) for path in folder.glob(_RECORDS)]
    if not records:
        raise InputError("no records", where=folder, do=f"make them with `peace sweep {experiment} --local`")
    return sorted(records, key=lambda record: (row_label(record.row), record.seed))


def read_scores(root: Path, record: Record) -> QueryScores | None:
    """Returns the scores of a record's single queries, if it names any.

    Raises:
        InputError: The file is missing or damaged, or is not that of this record.
    """
    path = record_path(root, record.experiment, record.row, record.seed)
    if record.queries is None:
        return None
    return read_queries(path, record.queries, {name: metric.value for name, metric in record.metrics.items()})


def _read(path: Path, root: Path, experiment: str) -> Record:
    record = Record.parse(path.read_bytes(), path)
    place = record_path(root, experiment, record.row, record.seed)
    if place != path or record.experiment != experiment:
        told = f"experiment {record.experiment}, row {row_label(record.row)}, seed {record.seed}"
        raise InputError("a record lies in the wrong place", where=path, got=told, do="move it where that belongs")
    return record
