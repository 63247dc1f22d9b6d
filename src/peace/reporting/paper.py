"""A paper's figures for the cells of a table, with the digits that it prints: the CSV that a `table.yaml` names."""

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path

from peace.errors import InputError, did_you_mean

_COLUMNS = ["row", "metric", "value", "note"]
_Key = tuple[str, str]


@dataclass(frozen=True)
class Paper:
    """What a paper prints.

    Attributes:
        source: Which table of which paper.
        values: Its figures by row label and metric, in the metric's own unit: 97.0 % is 0.970, so that digits are kept.
        notes: What is odd about some of them, by row label and metric.
    """

    source: str
    values: Mapping[_Key, Decimal]
    notes: Mapping[_Key, str]


def read_paper(path: Path, rows: Iterable[str], metrics: Iterable[str]) -> Paper:
    """Returns the figures in a CSV with the columns row, metric, value and, where wanted, note.

    Its first line, which starts with `#`, says where they are from.

    Args:
        path: The file.
        rows: Labels of the table's rows, as `row_label` makes them.
        metrics: Those of the table's columns.

    Raises:
        InputError: There is no such file, it does not say where its figures are from, lacks a column, has a value that
            is no finite number, or names a cell twice or one that the table has not.
    """
    source, lines = _read(path)
    values: dict[_Key, Decimal] = {}
    notes: dict[_Key, str] = {}
    known = {"row": set(rows), "metric": set(metrics)}
    for line in lines:
        for column, names in known.items():
            if line[column] not in names:
                do = did_you_mean(str(line[column]), names)
                raise InputError(f"the table has no such {column}", where=path, got=repr(line[column]), do=do)
        key = line["row"], line["metric"]
        if key in values:
            raise InputError("two figures for one cell", where=path, got=", ".join(key), do="keep one of them")
        values[key] = _number(line["value"], path)
        if line.get("note"):
            notes[key] = line["note"]
    return Paper(source, values, notes)


def _read(path: Path) -> tuple[str, list[dict[str, str]]]:
    try:
        head, _, body = path.read_text().partition("\n")
    except (OSError, UnicodeError) as error:
        raise InputError("cannot read the paper's figures", where=path, got=error) from error
    if not head.startswith("#") or not head.strip("# "):
        expected = "a first line such as '# Table 1 of arXiv:2110.15288'"
        raise InputError("figures without a source", where=path, got=repr(head), expected=expected)
    reader = csv.DictReader(body.splitlines(), restval="", strict=True)
    try:
        columns, lines = list(reader.fieldnames or ()), list(reader)
    except csv.Error as error:
        raise InputError("cannot read the paper's figures", where=path, got=error, expected="CSV") from error
    if columns not in (_COLUMNS, _COLUMNS[:3]):
        raise InputError("other columns", where=path, got=columns, expected="row,metric,value[,note]")
    if wide := [line for line in lines if None in line]:
        raise InputError("more values than columns", where=path, got=",".join(map(str, wide[0].values())))
    return head.strip("# "), lines


def _number(text: str, path: Path) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise InputError(
            "not a figure", where=path, got=repr(text), expected="a finite number in the metric's own unit"
        )
    return value
