"""`peace evaluate`: scores of a run's embeddings by retrieval or by linear probes, as a record."""

import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from pydantic import PositiveInt

from peace import provenance
from peace.atomic import replacing
from peace.commands.embed import COPIES, RANKING, TABLE, made_embeddings
from peace.commands.properties import PropertiesConfig, score_properties
from peace.commands.scored import Scored
from peace.config import fingerprint, place, run_directory
from peace.embeddings.ranking import Ranking
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.evaluation.examples import examples
from peace.evaluation.invariance import invariance
from peace.evaluation.projection import project
from peace.evaluation.protocols import protocols
from peace.evaluation.retrieval import Score, retrieve, score_ranking
from peace.registry import arguments
from peace.reporting.record import Metric, row_label, write_record
from peace.tracking.evaluation import tell_evaluation
from peace.tracking.run import Tracking
from peace.tracking.tell import Tracked

Scores = dict[str, Score]


@dataclass(frozen=True)
class EvaluateConfig:
    """What is scored.

    Attributes:
        task: `retrieval`, or `properties`, which the config's node of that name describes.
        relevant_by: Column of labels; models with the query's label are relevant.
        cutoffs: Ranks at which precision and recall are measured.
        points: Seeds for which the points of a picture are kept: places in the plane, or predictions of properties.
    """

    task: Literal["retrieval", "properties"] = "retrieval"
    relevant_by: str = "task"
    cutoffs: list[PositiveInt] = field(default_factory=lambda: [1, 5, 10])
    points: list[int] = field(default_factory=list)


def run(config: Mapping[str, Any], dry_run: bool = False) -> None:
    """Scores the embeddings or the ranking of the run that a config describes, and writes its record."""
    chosen = EvaluateConfig(**arguments(EvaluateConfig, config["evaluate"], "evaluate"))
    properties = PropertiesConfig(**arguments(PropertiesConfig, config["properties"], "properties"))
    where, results, row = run_directory(config), place(config, "results"), _row(config)
    started, producer = time.monotonic(), config["producer"]["name"]
    if chosen.task == "properties" and producer == "metadata":
        raise InputError("a ranking has no vectors to probe", where="'producer'", got=producer, do="take another")
    if dry_run:
        print(f"would score {where} into {results}")
        return
    if chosen.task == "properties":
        wanted = config["seed"] in chosen.points
        points = points_path(config, row, config["seed"], "predictions") if wanted else None
        scored = score_properties(where, properties, config["seed"], points)
    else:
        scored = _score_retrieval(where, chosen, config, row)
    origin = {"zoo": scored.zoo, "config": fingerprint(_scored(config)), **provenance.stamp()}
    path = write_record(
        results / "records", config["experiment"], row, config["seed"], scored.metrics, scored.counts, origin,
        time.monotonic() - started, scored.notes, scored.each,
    )  # fmt: skip
    with Tracking(config, "evaluate", where) as tracked:
        if tracked:
            rows = pd.DataFrame([{"metric": name, **asdict(metric)} for name, metric in scored.metrics.items()])
            tracked.used(made_embeddings(where, config))
            tell_evaluation(tracked, chosen.task, rows, scored.counts, scored.zoo)
            scored.tell(tracked)
    print(f"{row_label(row)}: {scored.brief}: {path}")


def _score_retrieval(where: Path, chosen: EvaluateConfig, config: Mapping[str, Any], row: Mapping[str, str]) -> Scored:
    """Scores the table of a run directory, or its ranking."""
    options = {"relevant_by": chosen.relevant_by, "cutoffs": chosen.cutoffs, "seed": config["seed"]}
    metrics: dict[str, Metric] = {}
    points = None
    if config["producer"]["name"] == "metadata":
        table = Ranking.load(where / RANKING)
        scores, models = _score_ranking(table, options), len(table.gallery)
    else:
        table, copies = EmbeddingTable.load(where / TABLE), EmbeddingTable.load(where / COPIES)
        scores, models = _score_table(table, copies, options), len(table)
        metrics = {f"symmetry/{name}": Metric(value) for name, value in invariance(table, copies).items()}
        if config["seed"] in chosen.points:
            points = _write_points(table, config, row)
    counts, each = {"models": models}, {}
    for protocol, found in scores.items():
        counts[f"queries, {protocol}"] = next(iter(found.values())).queries
        metrics |= {f"{protocol}/{name}": Metric(s.value, s.chance, s.low, s.high) for name, s in found.items()}
        each |= {f"{protocol}/{name}": score.each for name, score in found.items()}

    def tell(tracked: Tracked) -> None:
        tracked.table("examples", examples(table, chosen.relevant_by, config["seed"]))
        if points is not None:
            tracked.table("embedding", points)
            _tell_scatter(tracked, points, row_label(row), where / "scatter.png")

    brief = ", ".join(_brief(name, found) for name, found in scores.items())
    return Scored(metrics, counts, table.provenance.get("zoo", ""), brief, each=each, tell=tell)


def _score_table(table: EmbeddingTable, copies: EmbeddingTable, options: Mapping[str, Any]) -> dict[str, Scores]:
    """Scores of each protocol, with the models themselves and with their copies as queries."""
    scores = {}
    for protocol, queries in protocols(table.rows).items():
        scores[protocol] = retrieve(table, table.select(queries), **options)
        found = retrieve(table, copies.select(queries), **options)
        scores[f"{protocol}, copies"] = {name: found[name] for name in ("precision@5", "map@r") if name in found}
    return scores


def _score_ranking(ranking: Ranking, options: Mapping[str, Any]) -> dict[str, Scores]:
    scores = {}
    for protocol, queries in protocols(ranking.queries).items():
        part = Ranking(
            ranking.order[torch.tensor(queries)], ranking.queries[queries], ranking.gallery, ranking.provenance
        )
        scores[protocol] = score_ranking(part, **options)
    return scores


def _tell_scatter(tracked: Tracked, points: pd.DataFrame, title: str, picture: Path) -> None:
    """Draws the points and tells the picture; that there are too many tasks to draw must not fail an evaluation."""
    from peace.reporting.figures import draw, points_csv  # slow to import, and seldom needed
    from peace.reporting.results import write

    try:
        write(draw(points_csv({title: points}), picture.with_suffix(".csv")))
    except InputError as error:
        print(f"peace: no picture: {error}", file=sys.stderr)
        return
    tracked.picture("scatter", picture)


def _scored(config: Mapping[str, Any]) -> dict[str, Any]:
    """What of a config decides a record; who is told does not."""
    return {key: value for key, value in config.items() if key != "tracking"}


def _write_points(table: EmbeddingTable, config: Mapping[str, Any], row: Mapping[str, str]) -> pd.DataFrame:
    points, method = project(table, config["seed"])
    with replacing(points_path(config, row, config["seed"])) as path:
        points.assign(method=method).to_csv(path, index=False)
    return points


def points_path(config: Mapping[str, Any], row: Mapping[str, str], seed: int, kind: str = "points") -> Path:
    """Returns where the points of a row lie until the experiment's figure is drawn, `predictions` beside `points`."""
    return place(config, "runs") / config["experiment"] / kind / f"seed{seed}" / f"{row_label(row)}.csv"


def _row(config: Mapping[str, Any]) -> dict[str, str]:
    """The row of the experiment's table: the axes that a sweep gave, or else what made the embeddings."""
    row = config["row"] or {"method": config["producer"]["name"]}
    for axis, value in row.items():
        if not isinstance(value, str | int | float):
            raise InputError("not a value of the experiment's axis", where=f"'row.{axis}'", got=value, expected="text")
    return {axis: str(value) for axis, value in row.items()}


def _brief(protocol: str, found: Scores) -> str:
    name = "precision@5" if "precision@5" in found else "map@r"
    return f"{protocol} {name} {found[name].value:.3f}"
