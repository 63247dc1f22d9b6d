"""What is told of an evaluation: every metric beside its chance level and interval."""

from collections.abc import Mapping

from pandas import DataFrame

from peace.tracking.tell import Tracked

_BOUNDS = ("chance", "low", "high")


def tell_evaluation(tracked: Tracked, task: str, scores: DataFrame, counts: Mapping[str, int], zoo_hash: str) -> None:
    """Tells the scores, as numbers of the run and as a table.

    Args:
        tracked: Who is told.
        task: What was evaluated, such as `retrieval`; the table's name.
        scores: Rows with `metric`, `value`, `chance`, `low` and `high`; what a metric has not is None.
        counts: How many models and queries stand behind them.
        zoo_hash: Of the zoo whose embeddings were scored.
    """
    tracked.describe(zoo_hash=zoo_hash, counts=dict(counts))
    for row in scores.astype(object).where(scores.notna(), None).to_dict("records"):
        name = row["metric"]
        tracked.summarise({name: row["value"]} | {f"{name}/{bound}": row[bound] for bound in _BOUNDS})
    tracked.table(task, scores[["metric", "value", "low", "high", "chance"]])
