"""Embedding and indexing zoos of growing size from the command line: seconds, memory, and the latency of a query."""

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from peace.config import compose, run_directory, zoo_directory
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError, PeaceError
from peace.index.faiss_index import FaissIndex
from peace.zoo.storage import Zoo, usable, write_manifest

QUERIES = 500
"""Single queries whose latency is measured."""

_RUN = ("import resource, sys; from peace.cli import main; code = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)")  # fmt: skip


@dataclass(frozen=True)
class Run:
    """What one size of zoo took.

    Attributes:
        models: How many were embedded.
        embed_seconds: Of `peace embed`, process and table included.
        index_seconds: Of `peace index`.
        peak_bytes: Largest resident memory of `peace embed`.
        milliseconds: Of each single query of the exact index.
    """

    models: int
    embed_seconds: float
    index_seconds: float
    peak_bytes: int
    milliseconds: np.ndarray


def measured(words: Sequence[str], models: int, folder: Path, seed: int, embedder: Path) -> tuple[Run, EmbeddingTable]:
    """Returns what embedding and indexing the first models of a zoo took, and their table.

    Args:
        words: Words that say the zoo, and how the embedder was trained.
        models: How many models of the zoo.
        folder: Where the smaller zoo, its run and its index are made.
        seed: Of the queries.
        embedder: The folder of the trained embedder.

    Raises:
        InputError: The zoo has fewer usable models.
        PeaceError: A command failed.
    """
    here = [*words, f"paths.zoos={folder / 'zoos'}", f"paths.runs={folder / 'runs'}", "tracking=none"]
    config = compose("index", here)
    _first_models(Zoo.open(zoo_directory(compose("embed", words))), zoo_directory(config), models)
    shutil.copytree(embedder, run_directory(config) / "embedder")
    embedding, peak = _command("embed", *here, "embed.checkpoints=all", "embed.copies=false")
    indexing, _ = _command("index", *here, "index=exact")
    table = EmbeddingTable.load(run_directory(config) / "embeddings.safetensors")
    found = FaissIndex.load(run_directory(config) / "index")
    places = np.random.default_rng(seed).integers(len(table), size=QUERIES)
    queries = [table.vectors[place : place + 1] for place in places.tolist()]
    return Run(len(table), embedding, indexing, peak, latencies(found.search, queries)), table


def latencies(search: Callable[[Any, int], object], queries: Sequence[Any], k: int = 10) -> np.ndarray:
    """Returns the milliseconds of each single query for k neighbours, after ten that do not count."""
    for query in queries[:10]:
        search(query, k)
    found = []
    for query in queries:
        started = time.perf_counter()
        search(query, k)
        found.append(1000 * (time.perf_counter() - started))
    return np.array(found)


def _first_models(zoo: Zoo, folder: Path, models: int) -> None:
    """Makes a zoo of the first usable models of another, whose files of weights it shares."""
    rows = usable(zoo.rows).head(models).reset_index(drop=True)
    if len(rows) < models:
        raise InputError("too few usable models", where=zoo.folder, got=len(rows), expected=models)
    folder.mkdir(parents=True)
    (folder / "weights").symlink_to((zoo.folder / "weights").resolve())
    write_manifest(folder, rows)


def _command(*words: str) -> tuple[float, int]:
    """Seconds and the largest resident bytes of a command in a process of its own."""
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _RUN, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeaceError(f"`peace {' '.join(words)}` failed: {done.stderr.strip()[-500:]}")
    return time.perf_counter() - started, 1024 * int(done.stdout.splitlines()[-1])
