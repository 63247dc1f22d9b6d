"""`peace embed`: one vector (or one ranking) for every model of a zoo, and for permuted and rescaled copies of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from tqdm import tqdm

from peace import provenance, seeding
from peace.commands.pretrain import saved_embedder
from peace.config import run_directory, zoo_directory
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.graph.stack import Stack
from peace.graph.symmetry import sample
from peace.index.metadata import rank_by_metadata
from peace.models.loading import chunks, load_stacks
from peace.models.saving import build_producer, load_producer, save_producer
from peace.registry import arguments
from peace.tracking import artifacts
from peace.tracking.artifacts import Artifact
from peace.tracking.run import Tracking
from peace.zoo.storage import Zoo, last_checkpoints, usable

TABLE, COPIES, RANKING = "embeddings.safetensors", "copies.safetensors", "ranking.safetensors"

_LABELS = ["id", "run_id", "task", "dataset", "architecture", "family", "split", "epoch", "tags", "test_accuracy"]


@dataclass(frozen=True)
class EmbedConfig:
    """What is embedded.

    Attributes:
        checkpoints: `last`, each run once by its last checkpoint, or `all`.
        batch_size: Models in one forward pass.
        copies_log_scale: Standard deviation of the logarithm of the copies' positive scales.
    """

    checkpoints: Literal["last", "all"] = "last"
    batch_size: PositiveInt = 256
    copies_log_scale: NonNegativeFloat = 1.0


def run(config: Mapping[str, Any], dry_run: bool = False) -> None:
    """Embeds the zoo of a config with its producer, into the run directory."""
    chosen = EmbedConfig(**arguments(EmbedConfig, config["embed"], "embed"))
    where, started, name = run_directory(config), time.monotonic(), config["producer"]["name"]
    missing = _missing(config["producer"]) if name == "metadata" else None
    if missing is None:
        build_producer(config)
    if dry_run:
        print(f"would embed {zoo_directory(config)}")
        return
    zoo = Zoo.open(zoo_directory(config))
    rows = usable(zoo.rows)
    rows = last_checkpoints(rows) if chosen.checkpoints == "last" else rows
    if rows.empty:
        raise InputError("no model of the zoo is usable", where=zoo.folder, got="all diverged", do="train another zoo")
    with Tracking(config, "embed", where) as tracked:
        tracked.describe(zoo_hash=zoo.hash)
        tracked.used(artifacts.zoo(zoo.folder, hash=zoo.hash))
        if missing is not None:
            labels = rows[_LABELS].reset_index(drop=True)
            rank_by_metadata(labels, labels, missing, config["seed"], zoo.hash).save(where / RANKING)
        else:
            identity = _embed(zoo, rows, config, chosen, where)
            tell = tracked.used if name == "trained" else tracked.made
            tell(artifacts.embedder(where, hash=identity))
        tracked.summarise({"models": len(rows), "seconds": time.monotonic() - started})
        tracked.made(made_embeddings(where, name))
    print(f"{len(rows)} models by {name} in {time.monotonic() - started:.1f} s: {where}")


def _missing(node: Mapping[str, Any]) -> float:
    """The share of missing tags, once the node holds that and nothing else."""
    own = {key: value for key, value in node.items() if key != "name"}
    return arguments(rank_by_metadata, own, "producer 'metadata'", "gallery", "queries", "seed", "zoo")["missing"]


def _embed(zoo: Zoo, rows: pd.DataFrame, config: Mapping[str, Any], chosen: EmbedConfig, where: Path) -> str:
    stacks, rows = load_stacks(zoo, rows)
    producer, identity = _producer(config, stacks, where)
    spent = {"producer": config["producer"]["name"], "embedder": identity, "zoo": zoo.hash, **provenance.stamp()}
    labels = rows[[*_LABELS, "architecture_config"]]
    for file, models in ((TABLE, stacks), (COPIES, _copies(stacks, config["seed"], chosen.copies_log_scale))):
        vectors = embed(producer, models, chosen.batch_size)
        EmbeddingTable.of(vectors, labels, spent).save(where / file)
    return identity


def made_embeddings(where: Path, producer: str) -> Artifact:
    """Returns what a run directory's embeddings are told as: the tables of models and copies, or a ranking."""
    files = (RANKING,) if producer == "metadata" else (TABLE, COPIES)
    return artifacts.embeddings(where, *(where / file for file in files))


def embed(producer: nn.Module, stacks: Sequence[Stack], batch_size: int) -> Tensor:
    """Returns vectors of all models, stack after stack, at most so many in one forward pass. Shape: [G, D]."""
    parts = tqdm(list(chunks(stacks, batch_size)), desc="embed", unit=" batches", disable=None)
    with torch.no_grad():
        return torch.cat([producer.embed([part]) for part in parts])


def _producer(config: Mapping[str, Any], stacks: Sequence[Stack], where: Path) -> tuple[nn.Module, str]:
    """The run's trained embedder, or its baseline fitted on these models and saved."""
    if config["producer"]["name"] == "trained":
        return load_producer(saved_embedder(where))
    baseline = build_producer(config)
    baseline.fit(stacks)
    return baseline, save_producer(where / "embedder", baseline, config, provenance.stamp())


def _copies(stacks: Sequence[Stack], seed: int, log_scale: float) -> list[Stack]:
    """Each model moved by a random element of its symmetry group, in float64 and rounded once."""
    generator = seeding.generator(seed, "copies")
    moved = [sample(part.graph, len(part), generator, log_scale).apply(part.to(torch.float64)) for part in stacks]
    return [part.to(torch.float32) for part in moved]
