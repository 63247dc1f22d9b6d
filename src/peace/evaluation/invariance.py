"""How far an embedding moves when a network is written down differently."""

from torch import Tensor
from torch.nn.functional import normalize

from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError


def invariance(originals: EmbeddingTable, copies: EmbeddingTable) -> dict[str, float]:
    """Returns how far the vectors of functionally equal copies lie from those of their originals.

    Args:
        originals: Embeddings of networks.
        copies: Embeddings of the same networks, renumbered or rescaled, under the same ids in any order.

    Returns:
        `max_abs_difference` and `mean_abs_difference` over all entries of the unit vectors, and `max_cosine_distance`,
        1 minus the cosine, computed as half the squared distance, which keeps its digits near 0.

    Raises:
        InputError: The tables are empty, or differ in ids or dimension.
    """
    original, copy = (normalize(vectors.double(), dim=1) for vectors in _matched(originals, copies))
    difference = original - copy
    return {
        "max_abs_difference": difference.abs().max().item(),
        "mean_abs_difference": difference.abs().mean().item(),
        "max_cosine_distance": (difference.square().sum(dim=1) / 2).max().item(),
    }


def _matched(originals: EmbeddingTable, copies: EmbeddingTable) -> tuple[Tensor, Tensor]:
    if not len(originals):
        raise InputError("no models to compare", where="the table of originals")
    place = {name: position for position, name in enumerate(copies.rows["id"])}
    odd = sorted(set(originals.rows["id"]) ^ set(place), key=str)
    if odd:
        raise InputError(f"model '{odd[0]}' is in only one of the tables", do="embed the same models twice")
    if originals.vectors.shape != copies.vectors.shape:
        got, expected = copies.vectors.shape[1], originals.vectors.shape[1]
        raise InputError("copies of another dimension", got=got, expected=expected, do="embed both with one encoder")
    return originals.vectors, copies.vectors[[place[name] for name in originals.rows["id"]]]
