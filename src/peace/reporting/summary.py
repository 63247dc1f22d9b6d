"""What the records say about each cell of a table: mean, spread, interval and chance level over seeds."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from statistics import fmean, stdev

from peace.errors import InputError
from peace.metrics.significance import RESAMPLES
from peace.reporting.comparison import LEVEL, Comparison, Scores, compare
from peace.reporting.paper import Paper
from peace.reporting.record import Metric, Record, row_label
from peace.reporting.scale import run_at
from peace.reporting.spec import BlockSpec, ColumnSpec, RowSpec, TableSpec

_AGREEMENT = 1e-3
_TEST = (
    "two-sided paired bootstrap over queries, each seed's apart ({:,} resamples), with Holm's correction for the rows "
    "of a column. It is about queries, given zoos and encoders; what others would change is in the standard deviation."
)
_Row = tuple[RowSpec, list[Record]]
_Comparisons = Mapping[tuple[str, str], Comparison]
_Figures = Mapping[tuple[str, str], Decimal]


@dataclass(frozen=True)
class Cell:
    """One metric of one row over its seeds.

    Args:
        seeds: How many records carry the metric.
        mean: Mean over seeds.
        std: Sample standard deviation over seeds, s = sqrt(Σ (x - mean)² / (n - 1)); none with one seed.
        chance: Mean of the chance levels, where records carry one.
        low: Mean over seeds of the lower bounds of the bootstrap intervals, where records carry them.
        high: The same of the upper bounds.
        comparison: How it differs from the baseline's cell, where scores of single queries tell.
    """

    seeds: int
    mean: float
    std: float | None
    chance: float | None
    low: float | None
    high: float | None
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Line:
    """One row of a block: its name in records, its printed name, whether seeds are missing, a cell a column.

    `paper` has the figure of a paper for each column, where it has one.
    """

    name: str
    label: str
    short: bool
    cells: tuple[Cell | None, ...]
    paper: tuple[Decimal | None, ...]

    @property
    def has_paper(self) -> bool:
        """Whether a paper has a figure for any column."""
        return any(figure is not None for figure in self.paper)


@dataclass(frozen=True)
class Block:
    """One sub-table: columns, lines, and the chance level of each column (none where no record carries one)."""

    title: str
    columns: tuple[ColumnSpec, ...]
    lines: tuple[Line, ...]
    chance: tuple[float | None, ...] | None


@dataclass(frozen=True)
class Summary:
    """A whole table before it is printed: its blocks, the remarks under it, and whether it has a paper's figures."""

    experiment: str
    title: str
    caption: str
    blocks: tuple[Block, ...]
    remarks: tuple[str, ...]
    paper: bool = False


def summarise(
    spec: TableSpec, records: Sequence[Record], scores: Scores | None = None, paper: Paper | None = None
) -> Summary:
    """Returns the cells of every block, and remarks on what the table leaves out.

    Args:
        spec: What the table shows.
        records: All records of one experiment, in any order.
        scores: The scores of the records' queries by row label and seed, of those records that have any.
        paper: The figures of a paper, which keep rows without records in the table.

    Raises:
        InputError: There are no records, the chance level of a column differs between a block's rows of one seed, or
            the queries of a row are not those of the baseline.
    """
    if not records:
        raise InputError("no records to make a table from", expected="at least one")
    ordered = sorted(records, key=lambda record: record.seed)
    rows = [(row, [record for record in ordered if record.row == row.row]) for row in spec.rows]
    shown = [(row, found) for row, found in rows if found]
    baseline = [record for record in ordered if record.row == spec.baseline]
    comparisons = compare([found for _, found in shown], baseline, spec.metrics, scores or {})
    figures = paper.values if paper else {}
    blocks = tuple(_block(block, rows, spec, comparisons, figures) for block in spec.blocks)
    remarks = (
        *_on_the_paper(paper, spec),
        *run_at((row.label, found) for row, found in shown),
        *_on_the_baseline(spec, shown, comparisons),
        *_on_what_lacks(spec, blocks, rows, ordered),
    )
    return Summary(records[0].experiment, spec.title, spec.caption, blocks, remarks, paper is not None)


def _block(
    block: BlockSpec, rows: Sequence[_Row], spec: TableSpec, comparisons: _Comparisons, figures: _Figures
) -> Block:
    rows = [(row, found) for row, found in rows if block.shows(row)]
    every = [_line(row, found, block.columns, spec.seeds, comparisons, figures) for row, found in rows]
    # A row with none of these metrics belongs to other blocks, or was not run.
    lines = tuple(line for line in every if any(line.cells) or line.has_paper)
    chance = tuple(_chance(column.metric, rows) for column in block.columns) if spec.chance else ()
    known = any(level is not None for level in chance)
    return Block(block.title, tuple(block.columns), lines, chance if known else None)


def _line(
    row: RowSpec,
    records: list[Record],
    columns: Sequence[ColumnSpec],
    seeds: int,
    comparisons: _Comparisons,
    figures: _Figures,
) -> Line:
    name = row_label(row.row)
    cells = tuple(
        _cell([r.metrics[c.metric] for r in records if c.metric in r.metrics], comparisons.get((name, c.metric)))
        for c in columns
    )
    fewest = min([len(records), *(cell.seeds for cell in cells if cell)])
    paper = tuple(figures.get((name, column.metric)) for column in columns)
    return Line(name, row.label, any(cells) and fewest < seeds, cells, paper)


def _cell(metrics: list[Metric], comparison: Comparison | None) -> Cell | None:
    if not metrics:
        return None
    values = [metric.value for metric in metrics]
    return Cell(
        seeds=len(values),
        mean=fmean(values),
        std=stdev(values) if len(values) > 1 else None,
        chance=_mean(metric.chance for metric in metrics),
        low=_mean(metric.low for metric in metrics),
        high=_mean(metric.high for metric in metrics),
        comparison=comparison,
    )


def _mean(values: Iterable[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return fmean(given) if given else None


def _chance(metric: str, rows: Sequence[_Row]) -> float | None:
    levels: dict[int, dict[str, float]] = defaultdict(dict)
    for row, records in rows:
        for record in records:
            if metric in record.metrics and (chance := record.metrics[metric].chance) is not None:
                levels[record.seed][row_label(row.row)] = chance
    for seed, by_row in levels.items():
        if max(by_row.values()) - min(by_row.values()) > _AGREEMENT * max(map(abs, by_row.values())):
            raise InputError(
                f"the chance level of '{metric}' differs between rows of seed {seed}",
                got=", ".join(f"{label} {level:g}" for label, level in by_row.items()),
                expected="one level: these rows were scored on different galleries",
                do="score them again on the same zoo, or give each zoo a block of its own",
            )
    return _mean(level for by_row in levels.values() for level in by_row.values())


def _on_the_paper(paper: Paper | None, spec: TableSpec) -> Iterator[str]:
    if paper is None:
        return
    yield f"Lines in italics, the paper's figures: {paper.source}."
    rows = {row_label(row.row): row.label for row in spec.rows}
    columns = {column.metric: column.label for block in spec.blocks for column in block.columns}
    told: dict[str, list[str]] = {}
    for (row, metric), note in paper.notes.items():
        told.setdefault(note, []).append(f"{rows[row]}, {columns[metric]}")
    yield from (f"The paper, {'; '.join(cells)}: {note}." for note, cells in told.items())


def _on_the_baseline(spec: TableSpec, shown: Sequence[_Row], comparisons: _Comparisons) -> Iterator[str]:
    yield from (f"Baseline: {row.label}." for row in spec.rows if row.row == spec.baseline)
    if not comparisons:
        return
    yield f"▲ better, ▼ worse than the baseline, p < {LEVEL}: {_TEST.format(RESAMPLES)}"
    compared = {name for name, _ in comparisons}
    if left := [r.label for r, _ in shown if r.row != spec.baseline and row_label(r.row) not in compared]:
        yield f"Not compared, for want of scores of single queries or of common seeds: {', '.join(left)}."


def _on_what_lacks(
    spec: TableSpec, blocks: Iterable[Block], rows: Iterable[_Row], records: Iterable[Record]
) -> Iterator[str]:
    if any(line.short for block in blocks for line in block.lines):
        yield f"† Fewer than the {spec.seeds} seeds asked for."
    if absent := [row.label for row, found in rows if not found and not row.paper_only]:
        yield f"No records yet: {', '.join(absent)}."
    listed = [row.row for row in spec.rows]
    unlisted = Counter(row_label(record.row) for record in records if record.row not in listed)
    if unlisted:
        named = ", ".join(f"{name} ({count})" for name, count in sorted(unlisted.items()))
        yield f"Records that this table does not list: {named}."
