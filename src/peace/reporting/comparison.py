"""Which cells of a table differ from the baseline row, by the scores of single queries."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from peace.errors import InputError
from peace.metrics.significance import holm, paired_bootstrap
from peace.reporting.queries import QueryScores
from peace.reporting.record import Record, row_label

LEVEL = 0.05
Scores = Mapping[tuple[str, int], QueryScores]
"""The scores of the records that have any, by row label and seed."""


@dataclass(frozen=True)
class Comparison:
    """A cell against the baseline row's cell of the same column.

    Args:
        difference: Mean over the seeds that both have of the mean difference over queries.
        low: Lower end of its 95 % interval.
        high: Upper end of it.
        p: Two-sided p-value of the cell alone.
        p_holm: The same, corrected for the rows of the column.
    """

    difference: float
    low: float
    high: float
    p: float
    p_holm: float

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 0.05."""
        return self.p_holm < LEVEL


@dataclass(frozen=True)
class _Pairs:
    """A row's scores less the baseline's: for each seed, what its queries are and a difference for each of them."""

    row: str
    metric: str
    queries: tuple[tuple[str, int], ...]
    differences: tuple[Tensor, ...]


def compare(
    rows: Iterable[Sequence[Record]], baseline: Sequence[Record], metrics: Iterable[str], scores: Scores
) -> dict[tuple[str, str], Comparison]:
    """Returns the comparison of each row with the baseline, by row label and metric.

    A cell is compared over the seeds that both rows have, if scores of single queries are known for all of them.
    Everything that was measured on the same queries is resampled together, and the p-values of a metric are corrected
    for the number of its rows.

    Args:
        rows: The records of each row, the baseline's among them or not.
        baseline: The records of the baseline row.
        metrics: What the table's columns show.
        scores: Scores of single queries by row label and seed.

    Raises:
        InputError: The two rows have different queries.
    """
    metrics = list(dict.fromkeys(metrics))
    alike: dict[tuple[tuple[str, int], ...], list[_Pairs]] = defaultdict(list)
    for row in rows:
        for metric in metrics:
            if pairs := _pairs(row, baseline, metric, scores):
                alike[pairs.queries].append(pairs)
    found: dict[tuple[str, str], Comparison] = {}
    for queries, together in alike.items():
        tested = paired_bootstrap(
            [torch.stack(seed, dim=1) for seed in zip(*(pairs.differences for pairs in together), strict=True)], queries
        )
        columns = (tested.mean, tested.low, tested.high, tested.p, tested.p)
        for pairs, cell in zip(together, zip(*(column.tolist() for column in columns), strict=True), strict=True):
            found[pairs.row, pairs.metric] = Comparison(*cell)
    return _corrected(found, metrics)


def _pairs(row: Sequence[Record], baseline: Sequence[Record], metric: str, scores: Scores) -> _Pairs | None:
    """The differences of one metric; none for the baseline itself, or where a seed's queries have no scores."""
    ours, theirs = ({r.seed: r for r in records if metric in r.metrics} for records in (row, baseline))
    seeds = sorted(ours.keys() & theirs.keys())
    if not seeds or ours[seeds[0]].row == theirs[seeds[0]].row:
        return None
    name, base = row_label(ours[seeds[0]].row), row_label(theirs[seeds[0]].row)
    known = [(scores.get((name, seed)), scores.get((base, seed))) for seed in seeds]
    known = [(one, two) for one, two in known if one and two and metric in one.values and metric in two.values]
    if len(known) < len(seeds):
        return None
    for seed, (one, two) in zip(seeds, known, strict=True):
        if one.ids_of(metric) != two.ids_of(metric):
            raise InputError(
                f"rows '{name}' and '{base}' cannot be paired", where=f"'{metric}' of seed {seed}",
                got="different queries", do="score them again on the same zoo",
            )  # fmt: skip
    return _Pairs(
        name,
        metric,
        tuple((one.ids_of(metric), seed) for seed, (one, _) in zip(seeds, known, strict=True)),
        tuple(one.values[metric].double() - two.values[metric].double() for one, two in known),
    )


def _corrected(found: dict[tuple[str, str], Comparison], metrics: Iterable[str]) -> dict[tuple[str, str], Comparison]:
    for metric in metrics:
        column = [key for key in found if key[1] == metric]
        for key, p in zip(column, holm([found[key].p for key in column]), strict=True):
            found[key] = replace(found[key], p_holm=p)
    return found
