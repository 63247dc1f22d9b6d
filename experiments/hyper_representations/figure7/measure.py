"""Measures the weights of the zoos that figures 4 and 7 show, and writes a record and the points of each.

Words: `seed=0 paths.zoos=zoos paths.runs=runs paths.results=results`.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from peace import provenance
from peace.atomic import replacing
from peace.commands.embed import other_zoo
from peace.commands.evaluate import points_path
from peace.config import compose, fingerprint, place
from peace.embeddings.table import EmbeddingTable
from peace.errors import run_script
from peace.evaluation.excerpt import excerpt
from peace.evaluation.projection import project
from peace.evaluation.retrieval import retrieve
from peace.evaluation.spread import variance, variance_within
from peace.metrics import by_run
from peace.models.baselines import flattened
from peace.models.loading import load_stacks
from peace.reporting.record import Metric, write_record
from peace.zoo.storage import Zoo, last_checkpoints, usable

EXPERIMENT = "hyper_representations/figure7"
ZOOS = ("mnist_seed_small", "mnist_hyp_1_fix_seed_small", "mnist_hyp_1_rand_seed_small", "mnist_hyp_5_fix_seed_small",
        "mnist_hyp_5_rand_seed_small")  # fmt: skip
RUNS, EPOCHS = 42, 4
"""Of how many runs, at how many epochs, models are drawn."""
_SHOWN = ["epoch", "test_accuracy", "mean_weight", "activation", "initialisation", "x", "y"]


def main(words: Sequence[str], zoos: Sequence[str] = ZOOS) -> list[Path]:
    """Measures, writes points and records and returns the records' paths.

    Args:
        words: `key=value` words of `configs/evaluate.yaml`; `seed` and `paths` are used.
        zoos: Names of recipes under configs/zoo.
    """
    config = compose("evaluate", [f"experiment={EXPERIMENT}", *words])
    return [record(config, name) for name in zoos]


def record(config: Mapping[str, Any], name: str) -> Path:
    """Writes the points and the record of one zoo, and returns the record's path.

    Args:
        config: The composed config.
        name: The zoo.
    """
    started, row, zoo = time.monotonic(), {"zoo": name}, Zoo.open(other_zoo(config, name))
    stacks, models = load_stacks(zoo, usable(zoo.rows))
    weights = torch.cat([flattened(stack) for stack in stacks])
    models = models.assign(mean_weight=weights.double().mean(1).numpy())
    table = EmbeddingTable.of(weights, models, {})
    metrics = measured(table)
    if models["initialisation"].nunique() > 1:
        score = retrieve(table, table, "initialisation", [5], config["seed"])["precision@5"]
        metrics |= {"initialisation/precision@5": Metric(score.value, score.chance),
                    "initialisation/chance": Metric(score.chance)}  # fmt: skip
    shown = table.select(excerpt(models, RUNS, EPOCHS, config["seed"]))
    points, method = project(shown, config["seed"])
    with replacing(points_path(config, row, config["seed"])) as file:
        points[["id", "x", "y"]].merge(shown.rows, on="id")[_SHOWN].to_csv(file, index=False)
    counts = {"models": len(models), "runs": models["run_id"].nunique(), "models drawn": len(shown)}
    notes = {"projection": method, "scale": {"networks": counts["runs"], "checkpoints": len(models)}}
    origin = {"zoo": zoo.hash, "config": fingerprint([name, RUNS, EPOCHS]), **provenance.stamp()}
    path = write_record(place(config, "results") / "records", EXPERIMENT, row, config["seed"], metrics, counts, origin,
                        time.monotonic() - started, notes)  # fmt: skip
    print(f"{name}: " + ", ".join(f"{key} {metric.value:.3f}" for key, metric in metrics.items()) + f": {path}")
    return path


def measured(table: EmbeddingTable) -> dict[str, Metric]:
    """Returns how much weights and accuracies vary, and how the accuracy goes with the mean of a model's weights.

    Args:
        table: Flattened weights, with the mean of each model's among the columns.
    """
    models = table.rows
    accuracy, mean = (torch.tensor(models[name].to_numpy(float)) for name in ("test_accuracy", "mean_weight"))
    tau = by_run.kendall_tau(accuracy, mean, models["run_id"].to_numpy(), EXPERIMENT)
    last = last_checkpoints(models)["test_accuracy"]
    return {
        "variance": Metric(variance(table)),
        "variance_within": Metric(variance_within(table, ["initialisation", "activation"])),
        "mean_weight/pearson": Metric(float(torch.corrcoef(torch.stack([accuracy, mean]))[0, 1]), 0.0),
        "mean_weight/kendall_tau": Metric(tau.value, 0.0, tau.low, tau.high),
        "accuracy/mean": Metric(float(last.mean())),
        "accuracy/std": Metric(float(last.std())),
    }


if __name__ == "__main__":
    run_script(main)
