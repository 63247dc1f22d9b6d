"""What a table shows: the file `experiments/<name>/table.yaml`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Discriminator, Field, Tag, field_validator, model_validator

from peace.errors import InputError
from peace.reporting.curves import Panels
from peace.reporting.grid import GridSpec
from peace.reporting.predictions import PredictionsSpec
from peace.reporting.record import Record
from peace.reporting.schema import Checked, broken_rule


def _number_as_text(value: object) -> object:
    """Lets `num_layers: 6` in YAML name the row that a record calls `{"num_layers": "6"}`."""
    return str(value) if type(value) in (int, float) else value


Row = Annotated[dict[str, Annotated[str, BeforeValidator(_number_as_text)]], Field(min_length=1)]
Picture = GridSpec | PredictionsSpec
"""A figure that is drawn from points; those of curves are drawn from records."""


def _kind(figure: object) -> str:
    if isinstance(figure, dict):
        return str(figure.get("kind"))
    return figure.kind if isinstance(figure, Picture) else "curves"


Figure = Annotated[
    Annotated[Panels, Tag("curves")]
    | Annotated[GridSpec, Tag("grid")]
    | Annotated[PredictionsSpec, Tag("predictions")],
    Discriminator(
        _kind,
        custom_error_type="broken_rule",
        custom_error_message="no such kind of figure: write `kind: grid`, `kind: predictions` or a list of panels",
    ),
]


class RowSpec(Checked):
    """One row: which records it sums up, its printed name, and whether the paper alone is expected to have figures."""

    row: Row
    label: str
    paper_only: bool = False


class ColumnSpec(Checked):
    """One column: its metric, printed name and format, and which end of the metric is the better one."""

    metric: str
    label: str
    format: Literal["percent", "number", "scientific", "integer"]
    better: Literal["max", "min", "none"] = "max"


class BlockSpec(Checked):
    """One sub-table: of all rows, or of those `of` some zoo, say, which are compared with each other alone."""

    title: str
    of: Row | None = None
    columns: Annotated[list[ColumnSpec], Field(min_length=1)]

    def shows(self, row: RowSpec) -> bool:
        """Whether a row is one of its own."""
        return (self.of or {}).items() <= row.row.items()


class TableSpec(Checked):
    """A whole table: rows in printed order, sub-tables, how many seeds each row should have, and a figure.

    With `records` its rows are among those of another experiment, which several tables may share.
    """

    title: str
    caption: str
    seeds: Annotated[int, Field(ge=1)]
    rows: Annotated[list[RowSpec], Field(min_length=1)]
    baseline: Row | None = None
    chance: bool = True
    blocks: Annotated[list[BlockSpec], Field(min_length=1)]
    figure: Figure | None = None
    records: str | None = None
    paper: Annotated[str, Field(pattern=r"^\w[\w.-]*\.csv$")] | None = None

    def chosen(self, records: Sequence[Record]) -> list[Record]:
        """Returns the records that the table is about: all of its own experiment, those of its rows of another's."""
        rows = [row.row for row in self.rows]
        return [record for record in records if self.records is None or record.row in rows]

    @property
    def metrics(self) -> list[str]:
        """Those of all columns, block by block, each once."""
        return list(dict.fromkeys(column.metric for block in self.blocks for column in block.columns))

    @field_validator("rows")
    @classmethod
    def _each_row_once(cls, rows: list[RowSpec]) -> list[RowSpec]:
        for position, row in enumerate(rows):
            if row.row in [earlier.row for earlier in rows[:position]]:
                raise broken_rule(f"row {row.row} twice")
        return rows

    @model_validator(mode="after")
    def _baseline_is_a_row(self) -> Self:
        if self.baseline is not None and self.baseline not in [row.row for row in self.rows]:
            raise broken_rule(f"the baseline {self.baseline} is none of the rows")
        return self

    @model_validator(mode="after")
    def _blocks_have_rows(self) -> Self:
        for block in self.blocks:
            if not any(map(block.shows, self.rows)):
                raise broken_rule(f"the block '{block.title}' is of {block.of}, and none of the rows")
        return self


def read_spec(path: Path) -> dict[str, Any]:
    """Returns the content of a `table.yaml`, checked.

    Raises:
        InputError: There is no such file, it is not YAML, or a key is missing, unknown or of the wrong type.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
    except FileNotFoundError as error:
        raise InputError(
            "no table.yaml", where=path.parent, do="name a folder under experiments/ that has one"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(
            "cannot read the table", where=path, got=" ".join(str(error).split()), expected="YAML"
        ) from error
    TableSpec.parse(content, path)
    return content
