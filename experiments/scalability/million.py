"""Indexes of a million vectors: the real ones and vectors drawn to fill, searched one query at a time on one thread."""

import time
from collections.abc import Mapping
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor
from zoo_runs import QUERIES, latencies

from peace import seeding
from peace.embeddings.similarity import unit_rows
from peace.index.kinds import KINDS
from peace.index.recall import recall

INDEXES: Mapping[str, Mapping[str, Any]] = {
    "exact": {"name": "exact"},
    "hnsw": {"name": "hnsw"},
    "ivf_pq": {"name": "ivf_pq"},
}
"""What is compared: the kinds of `configs/index` with their defaults."""

_PART = 50_000


def filled(real: Tensor, count: int, seed: int) -> Tensor:
    """Returns the real vectors and as many drawn ones as are lacking to `count`.

    A drawn vector is a real one, each as often as any other, moved in a random direction, to another unit vector at the
    distance of that one's nearest neighbour: as far from its model as models of the zoo are from each other, so that
    the filled set is as dense around each model as the zoo is.

    Args:
        real: Unit vectors. Shape: [G, D].
        count: N.
        seed: Of the draw.

    Shape:
        [N, D].
    """
    if count <= len(real):
        return real[:count]
    nearest = torch.from_numpy(faiss.knn(real.numpy(), real.numpy(), 2, faiss.METRIC_L2)[0])[:, 1].clamp(min=0).sqrt()
    generator = seeding.generator("filled", seed)
    parts = [real]
    for places in (torch.arange(count - len(real)) % len(real)).split(_PART):
        parts.append(_moved(real[places], nearest[places], generator))
    return torch.cat(parts)


def _moved(vectors: Tensor, distances: Tensor, generator: torch.Generator) -> Tensor:
    """Unit vectors at these Euclidean distances, each in a random direction along the sphere."""
    noise = torch.randn(vectors.shape, generator=generator)
    noise -= (noise * vectors).sum(1, keepdim=True) * vectors
    noise = torch.nn.functional.normalize(noise, dim=1)
    cosine = (1 - distances.square() / 2).clamp(-1, 1)[:, None]
    return unit_rows(cosine * vectors + (1 - cosine.square()).sqrt() * noise, range(len(vectors)))


def measured(node: Mapping[str, Any], vectors: Tensor, seed: int, threads: int) -> dict[str, float]:
    """Returns what one kind of index takes and finds.

    Queries are drawn as the vectors that fill are: near models of the set, and none of it.

    Args:
        node: Name and arguments of the kind.
        vectors: What is indexed. Shape: [N, D].
        seed: Of the queries.
        threads: That build it; queries have one.
    """
    faiss.omp_set_num_threads(threads)
    started = time.perf_counter()
    index = KINDS.build(node).build(vectors)
    seconds = time.perf_counter() - started
    places = torch.from_numpy(np.random.default_rng(seed).integers(len(vectors), size=QUERIES))
    own = vectors[places]
    nearest = torch.from_numpy(faiss.knn(own.numpy(), vectors.numpy(), 2, faiss.METRIC_L2)[0])[:, 1].clamp(min=0).sqrt()
    queries = _moved(own, nearest, seeding.generator("queries", seed))
    found = torch.from_numpy(index.search(queries.numpy(), 10)[1])
    faiss.omp_set_num_threads(1)
    times = latencies(index.search, [query[None] for query in queries.numpy()])
    faiss.omp_set_num_threads(threads)
    return {
        "recall@10": recall(vectors, queries, found, 10), "p50_ms": float(np.quantile(times, 0.5)),
        "p99_ms": float(np.quantile(times, 0.99)), "build_seconds": seconds,
        "bytes_per_model": faiss.serialize_index(index).nbytes / len(vectors),
    }  # fmt: skip
