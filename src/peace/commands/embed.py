"""`peace embed`: one vector (or one ranking) for every model of a zoo, and for permuted and rescaled copies of them.

A large zoo may be embedded in parts, `embed.shard=1/4` to `4/4`, on as many machines, and joined with `embed.merge=4`.
`embed.others` names further zoos, of which the test models are embedded too; `embed.files` names checkpoints instead of
the zoo.
"""

import re
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from pydantic import NonNegativeFloat, PositiveInt
from torch import Tensor, nn
from tqdm import tqdm

from peace import provenance, seeding
from peace.commands.embed_files import embed_files
from peace.config import compose, run_directory, zoo_directory
from peace.embeddings.parts import join, save_part
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.exclusive import exclusive
from peace.graph.stack import Stack
from peace.graph.symmetry import sample
from peace.index.metadata import rank_by_metadata, share
from peace.models.loading import chunks, load_stacks
from peace.models.reconstruction import decodes, squared_errors
from peace.models.saving import build_producer, load_producer, save_producer, saved_embedder
from peace.registry import arguments
from peace.tracking import artifacts
from peace.tracking.artifacts import Artifact
from peace.tracking.run import Tracking
from peace.zoo.storage import Zoo, last_checkpoints, usable

TABLE, COPIES, RANKING = "embeddings.safetensors", "copies.safetensors", "ranking.safetensors"

_LABELS = [
    "id", "run_id", "task", "dataset", "architecture", "family", "split", "epoch", "tags", "corruption",
    "test_accuracy", "test_f1", "generalisation_gap", "learning_rate", "weight_decay", "dropout", "train_fraction",
    "activation", "initialisation", "optimizer", "recipe", "seed",
]  # fmt: skip


@dataclass(frozen=True)
class EmbedConfig:
    """What is embedded.

    Attributes:
        checkpoints: `last`, each run once by its last checkpoint, or `all`.
        batch_size: Models in one forward pass.
        copies: Whether permuted and rescaled copies of the models are embedded too, which retrieval is evaluated with.
        copies_log_scale: Standard deviation of the logarithm of the copies' positive scales.
        shard: `k/n`, only the k-th of n parts of the zoo, into a file of its own; null for all of it.
        merge: n, join the vectors of n parts; null to make them.
        others: Names of zoos, files under configs/zoo, whose test models the same producer embeds too, into a table for
            each. A zoo in parts has them where it is joined.
        files: A folder, a pattern, a file or a list of such: checkpoints to embed instead of the zoo.
        workers: How many of these are read at a time.
    """

    checkpoints: Literal["last", "all"] = "last"
    batch_size: PositiveInt = 256
    copies: bool = True
    copies_log_scale: NonNegativeFloat = 1.0
    shard: str | None = None
    merge: PositiveInt | None = None
    others: list[str] = field(default_factory=list)
    files: str | list[str] | None = None
    workers: PositiveInt = 1

    def __post_init__(self) -> None:
        """Refuses a shard that is none, and files in parts."""
        number, total = self.part
        if not 1 <= number <= total or (self.shard and self.merge):
            raise InputError("not a part of a zoo", where="'embed.shard'", got=self.shard,
                             expected="k/n with k from 1 to n, and embed.merge=null")  # fmt: skip
        if self.files and (self.shard or self.merge or self.others):
            raise InputError("files are embedded whole and alone", where="'embed.files'", got=self.files,
                             expected="embed.shard=null, embed.merge=null and embed.others=[]")  # fmt: skip

    @property
    def part(self) -> tuple[int, int]:
        """Number of the part to embed, from 1, and how many there are."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", self.shard or "1/1")
        return (int(match[1]), int(match[2])) if match else (0, 0)


def run(config: Mapping[str, Any], dry_run: bool = False) -> None:
    """Embeds the zoo of a config with its producer, into the run directory."""
    chosen = EmbedConfig(**arguments(EmbedConfig, config["embed"], "embed"))
    where, started, name = run_directory(config), time.monotonic(), config["producer"]["name"]
    if chosen.files:
        embed_files(config, chosen.files, chosen.workers, dry_run)
        return
    missing = _missing(config["producer"]) if name == "metadata" else None
    if missing is None:
        build_producer(config)
    elif chosen.others:
        raise InputError("a ranking is of one zoo", where="'embed.others'", got=chosen.others, expected="[]")
    folders = {other: other_zoo(config, other) for other in chosen.others}
    if dry_run:
        print(f"would embed {zoo_directory(config)}")
        return
    zoo = Zoo.open(zoo_directory(config))
    rows = _rows(zoo, chosen.checkpoints)
    others = {} if chosen.shard else {other: Zoo.open(folder) for other, folder in folders.items()}
    if missing is not None and chosen.shard:
        print("a ranking by metadata is not made in parts: it is made where they are joined")
        return
    # Parts are written apart from each other, at the same time.
    alone = nullcontext() if chosen.shard else exclusive(where)
    with alone, Tracking(config, "embed", where, part=chosen.shard or "") as tracked:
        tracked.describe(zoo_hash=zoo.hash)
        for used in (zoo, *others.values()):
            tracked.used(artifacts.zoo(used.folder, hash=used.hash))
        if missing is not None:
            labels = rows[_LABELS].reset_index(drop=True)
            rank_by_metadata(labels, labels, missing, config["seed"], zoo.hash).save(where / RANKING)
        elif identity := _embed(zoo, rows, config, chosen, where, others):
            tell = tracked.used if name == "trained" else tracked.made
            tell(artifacts.embedder(where, config["experiment"], hash=identity))
        tracked.summarise({"models": len(rows), "seconds": time.monotonic() - started})
        if not chosen.shard:
            tracked.made(made_embeddings(where, config))
    part = f"part {chosen.shard} of " if chosen.shard else ""
    print(f"{part}{len(rows)} models by {name} in {time.monotonic() - started:.1f} s: {where}")


def _rows(zoo: Zoo, checkpoints: str) -> pd.DataFrame:
    rows = usable(zoo.rows)
    if rows.empty:
        raise InputError("no model of the zoo is usable", where=zoo.folder, got="all diverged", do="train another zoo")
    return last_checkpoints(rows) if checkpoints == "last" else rows


def other_zoo(config: Mapping[str, Any], name: str) -> Path:
    """Returns where the zoo of another recipe lies, of the same seed as the config's zoo.

    Raises:
        InputError: There is no such recipe.
    """
    composed = compose("zoo", [f"zoo={name}", f"seed={config['zoo']['seed']}"])
    return zoo_directory({"zoo": composed["zoo"], "paths": config["paths"]})


def other_table(name: str) -> str:
    """Returns the name of the file that holds the embeddings of another zoo."""
    return f"embeddings-{name}.safetensors"


def _missing(node: Mapping[str, Any]) -> float:
    """The share of missing tags, once the node holds that and nothing else."""
    own = {key: value for key, value in node.items() if key != "name"}
    return share(
        arguments(rank_by_metadata, own, "producer 'metadata'", "gallery", "queries", "seed", "zoo")["missing"]
    )


def _embed(
    zoo: Zoo, rows: pd.DataFrame, config: Mapping[str, Any], chosen: EmbedConfig, where: Path, others: Mapping[str, Zoo]
) -> str:
    """Writes the tables, or a part of them, and returns the embedder's identity."""
    about = {"zoo": zoo.hash, "producer": config["producer"], "checkpoints": chosen.checkpoints,
             "batch_size": chosen.batch_size, "copies": chosen.copies,
             "copies_log_scale": chosen.copies_log_scale}  # fmt: skip
    producer, identity = _producer(config, zoo, rows, where, save=chosen.shard is None)
    if config["producer"]["name"] == "trained":
        about["embedder"] = identity
    if chosen.merge:
        vectors, copies = join([_part(where, number, chosen.merge) for number in range(1, chosen.merge + 1)], about)
    else:
        vectors, copies = _vectors(zoo, rows, config["seed"], producer, chosen)
    if chosen.shard:
        save_part(_part(where, *chosen.part), vectors, copies, about)
        return identity
    spent = {**about, "producer": config["producer"]["name"], "embedder": identity, **provenance.stamp()}
    tables = {TABLE: vectors} | ({COPIES: copies} if chosen.copies else {})
    for file, found in tables.items():
        labels = _labels(zoo, rows)
        if file == TABLE and decodes(producer):
            labels = labels.assign(**squared_errors(zoo, chunks(zoo, rows, chosen.batch_size), producer, vectors))
        EmbeddingTable.of(found, labels, spent).save(where / file)
    for name, other in others.items():
        _embed_other(other, config["seed"], producer, chosen, spent).save(where / other_table(name))
    # Those of an earlier embedder or zoo would not go with the table.
    for path in _beside(where) - {where / file for file in [*tables, *map(other_table, others)]}:
        path.unlink()
    return identity


def _beside(where: Path) -> set[Path]:
    """The tables that a run directory has beside that of its models."""
    return {path for path in (where / COPIES, *where.glob(other_table("*"))) if path.is_file()}


def _labels(zoo: Zoo, rows: pd.DataFrame) -> pd.DataFrame:
    """What is kept of the rows, in the order of their vectors."""
    return pd.concat(zoo.by_architecture(rows), ignore_index=True)[[*_LABELS, "architecture_config"]]


def _embed_other(
    zoo: Zoo, seed: int, producer: nn.Module, chosen: EmbedConfig, about: Mapping[str, Any]
) -> EmbeddingTable:
    """Embeds the test models of another zoo."""
    rows = _rows(zoo, chosen.checkpoints)
    rows = rows[rows["split"].eq("test")]
    if rows.empty:
        raise InputError("no model in the split 'test'", where=zoo.folder, do="leave the zoo out of embed.others")
    vectors, _ = _vectors(zoo, rows, seed, producer, replace(chosen, copies=False, shard=None))
    return EmbeddingTable.of(vectors, _labels(zoo, rows), {**about, "zoo": zoo.hash, "copies": False})


def made_embeddings(where: Path, config: Mapping[str, Any]) -> Artifact:
    """Returns what a run directory's embeddings are told as: a ranking, or tables of models, copies and other zoos."""
    ranked = config["producer"]["name"] == "metadata"
    files = [where / RANKING] if ranked else [where / TABLE, *sorted(_beside(where))]
    return artifacts.embeddings(where, config["experiment"], *files)


def _part(where: Path, number: int, total: int) -> Path:
    return where / "parts" / f"{number}_of_{total}.safetensors"


def _vectors(
    zoo: Zoo, rows: pd.DataFrame, seed: int, producer: nn.Module, chosen: EmbedConfig
) -> tuple[Tensor, Tensor]:
    """Vectors of the shard's models and, if wanted, of moved copies; never more than one batch is in memory."""
    batches = list(enumerate(chunks(zoo, rows, chosen.batch_size)))
    number, total = chosen.part
    mine = batches[len(batches) * (number - 1) // total : len(batches) * number // total]
    if not mine:
        raise InputError("the part is empty", where="'embed.shard'", got=f"{len(batches)} batches in {total} parts",
                         do="ask for fewer parts, or lower embed.batch_size")  # fmt: skip
    vectors, copies = [], []
    for place, batch in tqdm(mine, desc="embed", unit=" batches", disable=None):
        (stack,), _ = load_stacks(zoo, batch)
        with torch.no_grad():
            vectors.append(producer.embed([stack]))
            if chosen.copies:
                moved = _moved(stack, seeding.generator(seed, "copies", place), chosen.copies_log_scale)
                copies.append(producer.embed([moved]))
    found = torch.cat(vectors)
    return found, torch.cat(copies) if copies else found[:0]


def _producer(
    config: Mapping[str, Any], zoo: Zoo, rows: pd.DataFrame, where: Path, save: bool
) -> tuple[nn.Module, str]:
    """The run's trained embedder, or its baseline fitted on the training models and, where asked for, saved."""
    if config["producer"]["name"] == "trained":
        return load_producer(saved_embedder(where))
    baseline, train = build_producer(config), rows[rows["split"].eq("train")]
    if train.empty:
        raise InputError("no model in the split 'train'", where=zoo.folder, do="fit baselines on a zoo that is split")
    # Some architectures may be in other splits alone; of each, one model tells how wide its features are.
    baseline.fit(load_stacks(zoo, train)[0], load_stacks(zoo, rows.groupby("architecture_config").head(1))[0])
    return baseline, save_producer(where / "embedder", baseline, config, provenance.stamp()) if save else ""


def _moved(stack: Stack, generator: torch.Generator, log_scale: float) -> Stack:
    """Each model moved by a random element of its symmetry group, in float64 and rounded once."""
    element = sample(stack.graph, len(stack), generator, log_scale)
    return element.apply(stack.to(torch.float64)).to(torch.float32)
