"""Unit vectors, their similarities, and rankings by them in which equal scores leak nothing."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from peace import seeding
from peace.errors import InputError

_GRID = 2.0**40


def unit_rows(vectors: Tensor, names: Sequence[object]) -> Tensor:
    """Returns the vectors scaled to Euclidean length 1.

    Args:
        vectors: Any floating dtype and device.
        names: What to call each row in a message.

    Raises:
        InputError: A vector is zero or has an entry that is not finite.

    Shape:
        [G, D] to [G, D] float32 on the CPU.
    """
    vectors = vectors.detach().cpu().double()
    finite = vectors.isfinite().all(dim=1)
    if not finite.all():
        name = names[int((~finite).int().argmax())]
        raise InputError(f"the vector of '{name}' is not finite", do="check the weights and the encoder that made it")
    zero = (vectors == 0).all(dim=1)
    if zero.any():
        raise InputError(f"the vector of '{names[int(zero.int().argmax())]}' is zero", expected="a direction")
    # The largest entry is brought to 1 first, so that the squares neither overflow nor vanish.
    return normalize(vectors / vectors.abs().amax(dim=1, keepdim=True), dim=1).float()


def cosine(queries: Tensor, gallery: Tensor) -> Tensor:
    """Returns the cosine of each query with each gallery vector.

    It is computed in double precision and rounded to a grid of 2^-40: a matrix product may round equal directions
    differently in different columns, and such differences would rank equal models by their row.

    Shape:
        [Q, D] and [G, D] to [Q, G] float64.
    """
    product = normalize(queries.double(), dim=1) @ normalize(gallery.double(), dim=1).T
    return product.mul_(_GRID).round_().div_(_GRID)


def rank(scores: Tensor, stream: Tensor) -> Tensor:
    """Returns the positions by falling score, equal scores in an order drawn uniformly at random.

    Rows are often sorted by task, so ties broken by position would leak the label.

    Args:
        scores: Higher is better.
        stream: One key per query from `peace.seeding.keys`.

    Shape:
        [Q, G] scores and [Q] keys to [Q, G] int64.
    """
    shuffled = seeding.permutations(stream, scores.shape[1])
    order = scores.gather(1, shuffled).argsort(dim=1, descending=True, stable=True)
    return shuffled.gather(1, order)


def tie_stream(ids: Sequence[object], *parts: object) -> Tensor:
    """Returns one key per query that depends on its id and `parts`, not on the other queries. Shape: [Q] int64."""
    return seeding.keys(torch.tensor([seeding.key(name) for name in ids], dtype=torch.int64), *parts)
