"""Projections of each layer's token, summed or concatenated, then a perceptron (paper a, 3.3)."""

from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace.aggregators import AGGREGATORS
from peace.aggregators.depth import DEPTH_DIM, depth_features
from peace.errors import InputError


@AGGREGATORS.register("mlp")
class MLP(nn.Module):
    """Layer tokens joined by "a simple MLP that concatenates or sums projections of each z^l" (paper a, 3.3).

    Each token is projected together with features of its depth. `sum` takes any number of layers; `concat` gives each
    of `max_layers` places, counted from the output, a slot of its own, empty slots being zero.

    Args:
        input_dim: Size of a token.
        embedding_dim: D.
        hidden_dim: Size of a projection.
        join: `sum` or `concat`.
        max_layers: Slots of `concat`.

    Shape:
        [B, L, input_dim] -> [B, D].
    """

    def __init__(
        self,
        input_dim: int,
        embedding_dim: PositiveInt = 128,
        hidden_dim: PositiveInt = 128,
        join: Literal["sum", "concat"] = "sum",
        max_layers: PositiveInt = 16,
    ) -> None:
        super().__init__()
        self.join, self.max_layers = join, max_layers
        self.project = nn.Sequential(nn.Linear(input_dim + DEPTH_DIM, hidden_dim), nn.GELU())
        joined = hidden_dim * (max_layers if join == "concat" else 1)
        self.perceptron = nn.Sequential(nn.Linear(joined, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, embedding_dim))

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns embeddings. Shape: [B, D].

        Raises:
            InputError: There are more layers than slots.
        """
        models, layers, _ = tokens.shape
        depth = depth_features(layers, tokens).expand(models, -1, -1)
        projected = self.project(torch.cat([tokens, depth], dim=2))
        if self.join == "sum":
            return self.perceptron(projected.sum(1))
        if layers > self.max_layers:
            raise InputError("too many layers for the aggregator", got=layers, expected=f"at most {self.max_layers}",
                             do="raise aggregator.max_layers or set aggregator.join=sum")  # fmt: skip
        slots = projected.flip(1).flatten(1)
        return self.perceptron(nn.functional.pad(slots, (0, (self.max_layers - layers) * projected.shape[2])))
