"""`peace evaluate`: retrieval scores of a run's embeddings, as a record."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peace import provenance
from peace.commands.embed import COPIES, RANKING, TABLE
from peace.config import fingerprint, run_directory
from peace.embeddings.ranking import Ranking
from peace.embeddings.table import EmbeddingTable
from peace.evaluation.invariance import invariance
from peace.evaluation.projection import project
from peace.evaluation.protocols import protocols
from peace.evaluation.retrieval import Score, retrieve, score_ranking
from peace.atomic import replacing
from peace.reporting.record import Metric, row_label, write_record

Scores = dict[str, Score]


def run(config: Mapping[str, Any], dry_run: bool = False) -> None:
    """Scores the embeddings or the ranking of the run that a config describes, and writes its record."""
    where, chosen = run_directory(config), config["evaluate"]
    results = Path(config["paths"]["results"])
    if dry_run:
        print(f"would score {where} into {results}")
        return
    options = {"relevant_by": chosen["relevant_by"], "cutoffs": chosen["cutoffs"], "seed": config["seed"]}
    metrics: dict[str, Metric] = {}
    if config["producer"]["name"] == "metadata":
        scores, made_by, models = _score_ranking(Ranking.load(where / RANKING), options)
    else:
        table, copies = EmbeddingTable.load(where / TABLE), EmbeddingTable.load(where / COPIES)
        scores, made_by, models = _score_table(table, copies, options), table.provenance, len(table)
        change = invariance(table, copies)
        metrics = {f"symmetry/{name}": Metric(value) for name, value in change.items()}
        if config["seed"] in chosen["points"]:
            _write_points(table, config)
    counts = {"models": models}
    for protocol, found in scores.items():
        counts[f"queries, {protocol}"] = next(iter(found.values())).queries
        metrics |= {f"{protocol}/{name}": Metric(s.value, s.chance, s.low, s.high) for name, s in found.items()}
    origin = {"zoo": made_by.get("zoo", ""), "config": fingerprint(config), **provenance.stamp()}
    path = write_record(
        results / "records", config["experiment"], config["row"], config["seed"], metrics, counts, origin,
        provenance.seconds_since_start(),
    )  # fmt: skip
    print(f"{row_label(config['row'])}: " + ", ".join(_brief(name, found) for name, found in scores.items()) + f": {path}")


def _score_table(table: EmbeddingTable, copies: EmbeddingTable, options: Mapping[str, Any]) -> dict[str, Scores]:
    """Scores of each protocol, with the models themselves and with their copies as queries."""
    scores = {}
    for protocol, queries in protocols(table.rows).items():
        scores[protocol] = retrieve(table, table.select(queries), **options)
        found = retrieve(table, copies.select(queries), **options)
        scores[f"{protocol}, copies"] = {name: found[name] for name in ("precision@5", "map@r")}
    return scores


def _score_ranking(ranking: Ranking, options: Mapping[str, Any]) -> tuple[dict[str, Scores], dict[str, Any], int]:
    scores = {}
    for protocol, queries in protocols(ranking.queries).items():
        part = Ranking(ranking.order[queries], ranking.queries[queries], ranking.gallery, ranking.provenance)
        scores[protocol] = score_ranking(part, **options)
    return scores, ranking.provenance, len(ranking.gallery)


def _write_points(table: EmbeddingTable, config: Mapping[str, Any]) -> None:
    points, method = project(table, config["seed"])
    with replacing(points_path(config, row_label(config["row"]))) as path:
        points.assign(method=method).to_csv(path, index=False)


def points_path(config: Mapping[str, Any], label: str) -> Path:
    """Returns where the two-dimensional points of a row lie until the experiment's figure is drawn."""
    return Path(config["paths"]["runs"]) / config["experiment"] / "points" / f"{label}.csv"


def _brief(protocol: str, found: Scores) -> str:
    return f"{protocol} P@5 {found['precision@5'].value:.3f}"
