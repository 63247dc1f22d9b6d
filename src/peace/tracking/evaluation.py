"""What is told of an evaluation: every metric beside its chance level and interval, and queries to look at."""

from collections.abc import Mapping

from pandas import DataFrame

from peace.tracking.tell import Tracked

_BOUNDS = ("chance", "low", "high")


def tell_evaluation(
    tracked: Tracked, scores: DataFrame, counts: Mapping[str, int], examples: DataFrame, zoo_hash: str
) -> None:
    """Tells the scores, as numbers of the run and as a table, and the examples.

    Args:
        tracked: Who is told.
        scores: Rows with `metric`, `value`, `chance`, `low` and `high`; what a metric has not is None.
        counts: How many models and queries stand behind them.
        examples: Queries with their nearest models.
        zoo_hash: Of the zoo whose embeddings were scored.
    """
    tracked.describe(zoo_hash=zoo_hash, counts=dict(counts))
    for row in scores.astype(object).where(scores.notna(), None).to_dict("records"):
        name = row["metric"]
        tracked.summarise({name: row["value"]} | {f"{name}/{bound}": row[bound] for bound in _BOUNDS})
    tracked.table("retrieval", scores[["metric", "value", "low", "high", "chance"]])
    tracked.table("examples", examples)
