"""Measures the embeddings of table 7 that figure 8 shows, and writes a record and the points of each method.

Words: `seed=0 paths.zoos=zoos paths.runs=runs paths.results=results`.
"""

import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peace import provenance
from peace.atomic import replacing
from peace.commands.embed import TABLE
from peace.commands.evaluate import points_path
from peace.config import compose, compose_for, fingerprint, place, run_directory
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError, run_script
from peace.evaluation.excerpt import excerpt
from peace.evaluation.projection import project
from peace.evaluation.properties import probe
from peace.evaluation.retrieval import retrieve
from peace.reporting.record import Metric, write_record
from peace.sweeps.spec import manifest

EXPERIMENT, SOURCE = "hyper_representations/figure8", "hyper_representations/table7"
ZOO, METHODS = "mnist_hyp_small", ("w", "statistics", "e_c+d")
RUNS, EPOCHS = 120, 7
"""Of how many runs, at how many epochs, models are drawn."""
_SHOWN = ["epoch", "test_accuracy", "initialisation", "x", "y"]


def main(words: Sequence[str], source: str = SOURCE, zoo: str = ZOO) -> list[Path]:
    """Measures, writes points and records and returns the records' paths.

    Args:
        words: `key=value` words of `configs/evaluate.yaml`; `seed` and `paths` are used.
        source: The experiment whose embeddings are taken, with the axes `zoo` and `method`.
        zoo: Its zoo.
    """
    config = compose("evaluate", [f"experiment={EXPERIMENT}", *words])
    return [record(config, method, embeddings(config, words, source, {"zoo": zoo, "method": method}))
            for method in METHODS]  # fmt: skip


def embeddings(config: Mapping[str, Any], words: Sequence[str], source: str, row: Mapping[str, str]) -> EmbeddingTable:
    """Returns the embeddings of a row of another experiment, from where its sweep leaves them.

    Args:
        config: The composed config.
        words: What it was composed of.
        source: The experiment.
        row: A value of each of its axes.

    Raises:
        InputError: It has no such row, or the row was not embedded.
    """
    own = [word for word in words if word.startswith("paths.")]
    wanted = {f"row.{axis}={value}" for axis, value in row.items()}
    for task in manifest(source, [config["seed"]], own):
        line = shlex.split(task.line)
        if line[:2] == ["peace", "embed"] and wanted <= set(line):
            return EmbeddingTable.load(run_directory(compose_for("embed", line[2:])) / TABLE)
    raise InputError("no such row is embedded", where=f"experiment '{source}'", got=", ".join(sorted(wanted)))


def record(config: Mapping[str, Any], method: str, table: EmbeddingTable) -> Path:
    """Writes the points and the record of one method, and returns the record's path.

    Args:
        config: The composed config.
        method: The row of the table.
        table: Its embeddings.
    """
    started, row, seed = time.monotonic(), {"method": method}, config["seed"]
    score = retrieve(table, table, "initialisation", [5], seed)["precision@5"]
    found = probe(table, ["test_accuracy"], ["initialisation"], seed=seed)
    metrics = {"initialisation/precision@5": Metric(score.value, score.chance)}
    metrics |= {name: Metric(one.value, one.chance, one.low, one.high) for name, one in found.scores.items()}
    shown = table.select(excerpt(table.rows, RUNS, EPOCHS, seed))
    points, projection = project(shown, seed)
    with replacing(points_path(config, row, seed)) as file:
        points[["id", "x", "y"]].merge(shown.rows, on="id")[_SHOWN].to_csv(file, index=False)
    counts = {"models": len(table), "models drawn": len(shown), **found.counts}
    notes = {"projection": projection, "embedder": table.provenance.get("embedder", ""),
             "scale": {"networks": table.rows["run_id"].nunique(), "checkpoints": len(table)}}  # fmt: skip
    origin = {"zoo": table.provenance.get("zoo", ""), "config": fingerprint([method, RUNS, EPOCHS]),
              **provenance.stamp()}  # fmt: skip
    path = write_record(place(config, "results") / "records", EXPERIMENT, row, seed, metrics, counts, origin,
                        time.monotonic() - started, notes)  # fmt: skip
    print(f"{method}: " + ", ".join(f"{name} {metric.value:.3f}" for name, metric in metrics.items()) + f": {path}")
    return path


if __name__ == "__main__":
    run_script(main)
