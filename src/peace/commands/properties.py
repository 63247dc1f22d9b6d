"""`peace evaluate evaluate.task=properties`: what linear probes read off a run's embeddings."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from peace.atomic import replacing
from peace.commands.embed import TABLE, other_table
from peace.commands.scored import Scored
from peace.embeddings.table import EmbeddingTable
from peace.evaluation.predictions import drawn
from peace.evaluation.properties import Properties, probe
from peace.evaluation.spread import variance, variance_within
from peace.models.saving import provenance_of
from peace.reporting.record import Metric

_PAIRS = 250  # of a zoo, for a picture


@dataclass(frozen=True)
class PropertiesConfig:
    """What is probed.

    Attributes:
        regression: Columns of numbers, or of lists of them.
        classes: Columns of labels.
        others: Names of zoos that `embed.others` embedded, on whose test models the probes are tried.
    """

    regression: list[str] = field(default_factory=lambda: ["epoch", "test_accuracy", "generalisation_gap"])
    classes: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)


def score_properties(where: Path, chosen: PropertiesConfig, seed: int, points: Path | None = None) -> Scored:
    """Probes the table of a run directory, and says at which scale it was made and what could not be probed.

    Args:
        where: The run directory.
        chosen: What is probed.
        seed: Decides resamples, and which predictions are kept.
        points: Where some predictions of test models are kept, for a picture; none for nowhere.

    Raises:
        InputError: A table is missing or does not fit, or a target is missing; see `probe`.
    """
    table = EmbeddingTable.load(where / TABLE)
    others = {name: EmbeddingTable.load(where / other_table(name)) for name in chosen.others}
    found = probe(table, chosen.regression, chosen.classes, others, seed)
    if points:
        _write_predictions(found, seed, points)
    for name, reason in found.left_out.items():
        print(f"left out: {name}, {reason}")
    metrics = {name: Metric(**asdict(score)) for name, score in found.scores.items()}
    if table.provenance.get("producer") == "flat":
        within = variance_within(table, ["initialisation", "activation"])
        metrics |= {"zoo/variance": Metric(variance(table)), "zoo/variance_within": Metric(within)}
    counts = {"models": len(table), **found.counts}
    brief = ", ".join(f"{name.removeprefix('test/')} {score.value:.3f}" for name, score in found.scores.items()
                      if name.startswith("test/") and not name.endswith("kendall_tau"))  # fmt: skip
    scale = {"networks": int(table.rows["run_id"].nunique()), "checkpoints": len(table)}
    spent = provenance_of(where / "embedder")
    scale |= {name: spent[name] for name in ("steps", "models a step") if name in spent}
    notes = {"penalties": found.chosen, "left_out": found.left_out, "scale": scale}
    return Scored(metrics, counts, table.provenance.get("zoo", ""), brief, notes)


def _write_predictions(found: Properties, seed: int, points: Path) -> None:
    tested = {name: pair for name, pair in found.predictions.items() if not name.startswith("val/")}
    with replacing(points) as path:
        drawn(tested, _PAIRS, seed).to_csv(path, index=False)
