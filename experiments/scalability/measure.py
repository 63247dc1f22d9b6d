"""Embeds and indexes zoos of growing size, and indexes a million vectors; writes one record a size and one an index.

Words: those of the run of `peace pretrain` whose embedder is measured, on a zoo of its own.
"""

import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from growth import line
from million import INDEXES, filled
from million import measured as index_measured
from torch import Tensor
from tqdm import tqdm
from zoo_runs import Run
from zoo_runs import measured as zoo_measured

from peace import provenance
from peace.config import compose, fingerprint, place, run_directory, zoo_directory
from peace.errors import run_script
from peace.models.saving import load_producer
from peace.reporting.record import Metric, write_record
from peace.zoo.storage import Zoo

EXPERIMENT = "scalability"
SIZES, REPEATS, MILLION = (1_000, 5_000, 10_000, 50_000), 3, 1_000_000
THREADS = 2


def main(
    words: Sequence[str],
    zoo_name: str = "scalability",
    sizes: Sequence[int] = SIZES,
    repeats: int = REPEATS,
    million: int = MILLION,
) -> list[Path]:
    """Measures, writes the records and returns their paths.

    Args:
        words: `key=value` words of `configs/embed.yaml` that name a run whose embedder is trained.
        zoo_name: The zoo whose models are embedded.
        sizes: Numbers of models, the largest last.
        repeats: How often each size is measured.
        million: Size of the indexes, and where the line is read off.

    Raises:
        InputError: The run has no embedder, or the zoo too few models.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        return _measured(words, zoo_name, sizes, repeats, million)
    finally:
        torch.set_num_threads(threads)


def _measured(words: Sequence[str], zoo_name: str, sizes: Sequence[int], repeats: int, million: int) -> list[Path]:
    embedder = run_directory(compose("embed", words)) / "embedder"
    _, content_hash = load_producer(embedder)
    words = [*(word for word in words if not word.startswith("zoo=")), f"zoo={zoo_name}"]
    config = compose("embed", words)
    root, zoo, started = place(config, "results") / "records", Zoo.open(zoo_directory(config)), time.perf_counter()
    origin = {"zoo": zoo.hash, "config": fingerprint({"zoo": config["zoo"], "encoder": config["encoder"]}),
              **provenance.stamp()}  # fmt: skip
    runs: dict[int, list[Run]] = {size: [] for size in sizes}
    for size in tqdm([size for size in sizes for _ in range(repeats)], unit=" runs", disable=None):
        with tempfile.TemporaryDirectory() as folder:
            run, table = zoo_measured(words, size, Path(folder), config["seed"], embedder)
            runs[size].append(run)
    made = _Written(root, config["seed"], origin, started, content_hash)
    paths = [made.write({"models": str(size)}, _of_runs(found), {"models": size, "repeats": repeats})
             for size, found in runs.items()]  # fmt: skip
    paths.append(made.write({"models": "line"}, _line(runs, million, config["seed"]), {"repeats": repeats}))
    return paths + _indexes(made, table.vectors, million)


class _Written:
    """Writes the experiment's records."""

    def __init__(self, root: Path, seed: int, origin: Mapping[str, object], started: float, embedder: str) -> None:
        self.root, self.seed, self.origin, self.started = root, seed, dict(origin), started
        self.notes = {"threads": THREADS, "embedder": embedder}

    def write(self, row: dict[str, str], metrics: dict[str, Metric], counts: dict[str, int]) -> Path:
        """Writes a record and returns its path."""
        seconds = time.perf_counter() - self.started
        return write_record(self.root, EXPERIMENT, row, self.seed, metrics, counts, self.origin, seconds, self.notes)


def _of_runs(runs: Sequence[Run]) -> dict[str, Metric]:
    """Medians over repeated runs."""
    found = {
        "embed_seconds": [run.embed_seconds for run in runs],
        "index_seconds": [run.index_seconds for run in runs],
        "models_per_second": [run.models / run.embed_seconds for run in runs],
        "peak_gigabytes": [run.peak_bytes / 1e9 for run in runs],
        "query_p50_ms": [float(statistics.median(run.milliseconds)) for run in runs],
    }
    return {name: Metric(statistics.median(values)) for name, values in found.items()}


def _line(runs: Mapping[int, Sequence[Run]], million: int, seed: int) -> dict[str, Metric]:
    """The line through the seconds of embedding and indexing, and through the memory."""
    seconds = {size: [run.embed_seconds + run.index_seconds for run in found] for size, found in runs.items()}
    memory = {size: [run.peak_bytes / 1e9 for run in found] for size, found in runs.items()}
    metrics = {}
    for name, values in (("seconds", seconds), ("gigabytes", memory)):
        fit = line(values, million, seed)
        metrics |= {
            f"{name}_of_none": Metric(fit.a, None, *fit.a_interval),
            f"{name}_per_thousand": Metric(1000 * fit.b, None, *(1000 * bound for bound in fit.b_interval)),
            f"{name}_of_a_million": Metric(fit.at, None, *fit.at_interval),
        }
    return metrics


def _indexes(made: _Written, real: Tensor, million: int) -> list[Path]:
    vectors = filled(real, million, made.seed)
    counts = {"vectors": len(vectors), "real vectors": len(real)}
    paths = []
    for name, node in INDEXES.items():
        found = index_measured(node, vectors, made.seed, THREADS)
        paths.append(made.write({"index": name}, {key: Metric(value) for key, value in found.items()}, counts))
    return paths


if __name__ == "__main__":
    run_script(lambda words: print(*main(words), sep="\n"))
