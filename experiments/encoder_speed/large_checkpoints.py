"""Part (b): the embedding of large checkpoints, beside a bare matrix product and the size of the file."""

import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from checkpoints import (
    REPEATS,
    bare_product,
    embedder,
    image_network,
    median_seconds,
    operations,
    operations_as_written,
    peak_bytes,
    streamed,
)
from tqdm import tqdm

from peace import provenance
from peace.config import fingerprint
from peace.encoders.layer_gnn import LayerGNN
from peace.models.streaming import embed_checkpoint
from peace.reporting.record import Metric, write_record
from peace.zoo.checkpoint import open_checkpoint

EXPERIMENT = "encoder_speed"
NETWORKS = {"resnet50": "resnet50", "vit_b_16": "vit_base_patch16_224"}
THREADS = 2
FOLDING = frozenset({"raw"})
"""Encoders that multiply no weights in matrix products, and so have no product to stand beside."""


def records(
    root: Path, seed: int, encoders: Sequence[str], networks: Sequence[str] = tuple(NETWORKS)
) -> Iterator[Path]:
    """Yields the path of the record of each encoder that reads a checkpoint layer by layer.

    Args:
        root: Where records lie.
        seed: Of the checkpoints' weights and of the encoders.
        encoders: Their names.
        networks: Names in `NETWORKS`.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name / "model.safetensors" for name in networks}
        for name, path in files.items():
            image_network(NETWORKS[name], path, seed)
        for encoder in tqdm(streamed(encoders), unit=" encoders", disable=None):
            yield _measured(root, seed, encoder, files)
    torch.set_num_threads(threads)


def _measured(root: Path, seed: int, encoder: str, files: dict[str, Path]) -> Path:
    started, metrics, counts = time.perf_counter(), {}, {"repeats": REPEATS}
    for name, path in files.items():
        found, count = measured(encoder, path, seed)
        metrics |= {f"{name}_{key}": Metric(value) for key, value in found.items()}
        counts |= {f"{name}, operations": count, f"{name}, bytes": path.stat().st_size}
    config = fingerprint({"encoder": encoder, "networks": {name: NETWORKS[name] for name in files}})
    return write_record(
        root, EXPERIMENT, {"part": "large", "encoder": encoder}, seed, metrics, counts,
        {"zoo": "", "config": config, **provenance.stamp()}, time.perf_counter() - started, {"threads": THREADS},
    )  # fmt: skip


def measured(encoder: str, path: Path, seed: int) -> tuple[dict[str, float], int]:
    """Returns seconds, their ratio to those of bare products, peak memory over file size; and the operations."""
    made = embedder(encoder, seed)
    count = operations(made, path)
    embedding = median_seconds(lambda: embed_checkpoint(made, open_checkpoint(path)))
    found = {"seconds": embedding, "memory": peak_bytes(encoder, path, seed) / path.stat().st_size}
    if encoder not in FOLDING:
        product = median_seconds(bare_product(count))
        found |= {"seconds_of_product": product, "ratio": embedding / product}
        if isinstance(made.encoder, LayerGNN):
            found["ratio_as_written"] = found["ratio"] * count / operations_as_written(made.encoder, path)
    return found, count
