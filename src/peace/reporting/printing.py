"""A block of a table as text, before any markup: numbers, names, and which value of a column is the best."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum

from peace.reporting.spec import ColumnSpec
from peace.reporting.summary import Block, Cell, Line

_ABSENT = "–"


class Rank(Enum):
    """Where a cell stands in its column."""

    PLAIN = 0
    BEST = 1
    SECOND = 2


@dataclass(frozen=True)
class Printed:
    """A cell as text: its mean, then its spread and interval; where it stands in its column and to the baseline."""

    mean: str
    rest: str = ""
    rank: Rank = Rank.PLAIN
    mark: str = ""


def number(value: float, style: str, largest: float) -> str:
    """Returns a number as printed.

    Args:
        value: The number.
        style: `percent` (one decimal), `scientific` (two), `integer`, or `number` (three significant digits).
        largest: Where `style` is `number`, the size that the three digits belong to, so that a standard deviation and
            the bounds of an interval end at the same decimal as their mean.
    """
    match style:
        case "percent":
            text = f"{100 * value:.1f}"
        case "scientific":
            text = f"{value:.2e}"
        case "integer":
            text = f"{value:.0f}"
        case _:
            places = 2 - int(f"{largest:.2e}".partition("e")[2])
            text = f"{round(value, places):.{max(places, 0)}f}"
    return (text.removeprefix("-") if float(text) == 0 else text).replace("-", "−")


def _printed(cell: Cell | None, style: str) -> Printed:
    if cell is None:
        return Printed(_ABSENT)
    largest = max(abs(cell.mean), cell.std or 0.0)
    mean, std, low, high = (
        None if value is None else number(value, style, largest) for value in (cell.mean, cell.std, cell.low, cell.high)
    )
    return Printed(mean or "", (f" ± {std}" if std else "") + (f" [{low}, {high}]" if low else ""))


def _column(cells: Sequence[Cell | None], column: ColumnSpec) -> list[Printed]:
    """Ranks by the exact means; rows that print the same mean share their rank."""
    printed = [_printed(cell, column.format) for cell in cells]
    sign = {"max": -1.0, "min": 1.0, "none": 0.0}[column.better]
    order = sorted((sign * cell.mean, text.mean) for cell, text in zip(cells, printed, strict=True) if cell and sign)
    ranks = dict(zip(dict.fromkeys(text for _, text in order), (Rank.BEST, Rank.SECOND), strict=False))
    return [
        Printed(text.mean, text.rest, ranks.get(text.mean, Rank.PLAIN), _mark(cell, sign))
        for cell, text in zip(cells, printed, strict=True)
    ]


def _mark(cell: Cell | None, sign: float) -> str:
    if cell is None or cell.comparison is None or not cell.comparison.significant or not sign:
        return ""
    return "▲" if sign * cell.comparison.difference < 0 else "▼"


def rows(block: Block) -> list[tuple[str, list[Printed]]]:
    """Returns each row's name, with a dagger where seeds are missing, and its cells."""
    columns = [
        _column([line.cells[place] for line in block.lines], column) for place, column in enumerate(block.columns)
    ]
    return [(_name(line), [column[place] for column in columns]) for place, line in enumerate(block.lines)]


def paper(line: Line, block: Block) -> list[str]:
    """Returns the paper's figure for each column, with the digits that it prints."""
    cells = zip(line.paper, block.columns, strict=True)
    return [_ABSENT if figure is None else _figure(figure, column.format) for figure, column in cells]


def _figure(figure: Decimal, style: str) -> str:
    return f"{figure.scaleb(2) if style == 'percent' else figure:f}".replace("-", "−")


def chance(block: Block) -> list[str]:
    """Returns the chance level of each column."""
    levels = zip(block.chance or (), block.columns, strict=False)
    return [_ABSENT if level is None else number(level, column.format, abs(level)) for level, column in levels]


def heads(block: Block) -> list[str]:
    """Returns the name of each column, with its unit."""
    return [flat(column.label) + (" (%)" if column.format == "percent" else "") for column in block.columns]


def _name(line: Line) -> str:
    return flat(line.label) + ("†" if line.short else "")


def flat(text: str) -> str:
    """Returns a text on one line."""
    return " ".join(text.split())
