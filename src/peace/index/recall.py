"""How many of the true neighbours an index finds."""

import torch
from torch import Tensor

from peace import seeding

# Two OpenMP runtimes in one process can crash it; loaded after torch, FAISS finds the one of torch.
import faiss  # isort: skip

_SAMPLE = 1000
_ALIKE = 1e-6


def own_recall(index: "faiss.Index", vectors: Tensor, k: int = 10) -> float:
    """Returns the recall@k of a sample of the indexed vectors, each left out of its own neighbours.

    Args:
        index: Holds the vectors, at their places.
        vectors: Unit vectors. Shape: [G, D].
        k: How many neighbours; fewer where there are fewer.
    """
    k = min(k, len(vectors) - 1)
    if k < 1:
        return 1.0
    chosen = seeding.permutations(seeding.keys([0], "recall"), len(vectors))[0, :_SAMPLE]
    found = torch.from_numpy(index.search(vectors[chosen].numpy(), k + 1)[1])
    return recall(vectors, vectors[chosen], found, k, chosen)


def recall(vectors: Tensor, queries: Tensor, found: Tensor, k: int, own: Tensor | None = None) -> float:
    """Returns the share of the k nearest vectors that were found, by their similarity.

    What is as similar as the k-th nearest counts, whichever of equal vectors it is.

    Args:
        vectors: Unit vectors. Shape: [G, D].
        queries: Unit vectors. Shape: [Q, D].
        found: Positions that a search found, the best first, -1 for none. Shape: [Q, K].
        k: How many neighbours count.
        own: The position of each query among the vectors, which is no neighbour of it. Shape: [Q].
    """
    places = torch.full((len(queries), 1), -1) if own is None else own[:, None]
    wanted = k + (own is not None)
    true = torch.from_numpy(faiss.knn(queries.numpy(), vectors.numpy(), wanted, faiss.METRIC_INNER_PRODUCT)[1])
    least = _similarities(vectors, queries, true, places).topk(k, dim=1).values[:, -1:]
    reached = _similarities(vectors, queries, found, places).topk(min(k, found.shape[1]), dim=1).values
    return float((reached >= least - _ALIKE).sum()) / (k * len(queries))


def _similarities(vectors: Tensor, queries: Tensor, places: Tensor, own: Tensor) -> Tensor:
    """Inner products of queries with vectors at places, -∞ where there is none or it is the query. Shape: [Q, K]."""
    products = (vectors[places.clamp(min=0)] @ queries[:, :, None])[..., 0]
    return products.masked_fill((places < 0) | (places == own), -torch.inf)
