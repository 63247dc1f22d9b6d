"""The control without equivariance: each layer's flattened adjacency through a perceptron."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace import seeding
from peace.encoders import ENCODERS, LayerEncoder, Symmetry
from peace.graph.weight_graph import Layer

_CHUNK = 2**18


@ENCODERS.register("raw")
class Raw(LayerEncoder):
    """One token per layer from its flattened adjacency: knows no symmetry, the ablation "use raw adjacency" of paper a.

    The rows of the adjacency follow each other, biases follow them as a row of their own: one more node, which always
    says 1. Behind are zeros up to `max_weights` numbers. What is longer is folded: its pieces of `max_weights` numbers
    are added up, each number with a sign drawn once for its place. So every weight counts, and inner products of two
    models are kept on average, as in a count sketch. The result enters at root mean square 1; the logarithm of its norm
    is the token's last number.

    Args:
        hidden_dim: H.
        num_layers: Hidden layers of the perceptron.
        max_weights: Size of its input.

    Shape:
        Stack of B models with L layers -> [B, L, H + 1].

    Reference:
        Permutation-Equivariant Contrastive Embeddings, section 3.6. Folding: Charikar et al. 2002, *Finding frequent
        items in data streams*; Weinberger et al. 2009, arXiv:0902.2206, section 2.
    """

    symmetries: ClassVar[frozenset[Symmetry]] = frozenset()

    def __init__(
        self, hidden_dim: PositiveInt = 64, num_layers: PositiveInt = 2, max_weights: PositiveInt = 4096
    ) -> None:
        super().__init__()
        self.output_dim, self.max_weights = hidden_dim + 1, max_weights
        sizes = [max_weights, *[hidden_dim] * num_layers]
        hidden = [part for n_in in sizes[:-1] for part in (nn.Linear(n_in, hidden_dim), nn.GELU())]
        self.perceptron = nn.Sequential(*hidden, nn.Linear(hidden_dim, hidden_dim))

    def token(self, layer: Layer, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the tokens of one layer of B models. Shape: [B, H + 1]."""
        flat = folded([weight.flatten(1), *([] if bias is None else [bias])], self.max_weights)
        norm = flat.norm(dim=1, keepdim=True)
        norm = torch.where(norm > 0, norm, 1)
        return torch.cat([self.perceptron(flat * (self.max_weights**0.5 / norm)), norm.log()], dim=1)


def folded(rows: Sequence[Tensor], size: int) -> Tensor:
    """Returns joined rows at a fixed size: zeros behind short ones, pieces of long ones added up with random signs.

    Args:
        rows: Each with some of the numbers, in their order. Shape: [B, n].
        size: Wanted.

    Returns:
        Shape: [B, size].
    """
    count = sum(row.shape[1] for row in rows)
    if count <= size:
        return nn.functional.pad(torch.cat(list(rows), dim=1), (0, size - count))
    total, start = rows[0].new_zeros(len(rows[0]), size), 0
    # Chunk by chunk: a layer may take most of the memory that there is.
    for chunk in (chunk for row in rows for chunk in row.split(_CHUNK, dim=1)):
        total, start = total + _signed_sum(chunk, size, start), start + chunk.shape[1]
    return total


def _signed_sum(chunk: Tensor, size: int, start: int) -> Tensor:
    """The pieces of numbers that stand from `start` on, added up with the signs of their places. Shape: [B, size]."""
    first, before = divmod(start, size)
    pieces = -(-(before + chunk.shape[1]) // size)
    padded = nn.functional.pad(chunk, (before, pieces * size - before - chunk.shape[1]))
    draw = seeding.uniform(seeding.keys(torch.arange(first, first + pieces), "raw signs"), size).to(chunk.device)
    return torch.where(draw < 0.5, -1, 1).to(chunk).mul(padded.unflatten(1, (pieces, size))).sum(1)
