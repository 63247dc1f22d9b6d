"""Attention pooling over the layers' tokens."""

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch_geometric.nn.aggr import AttentionalAggregation

from peace.aggregators import AGGREGATORS
from peace.aggregators.depth import DEPTH_DIM, depth_features
from peace.aggregators.flat import flat


@AGGREGATORS.register("attention")
class Attention(nn.Module):
    """A weighted mean of the layers' projections: z = V Σ_l softmax_l(g(z^l)) ⊙ f(z^l), from PyG.

    g and f see each token, after LayerNorm, together with features of its depth. g gives each of the `hidden_dim`
    numbers of f a weight of its own.

    Args:
        input_dim: Size of a token.
        embedding_dim: D.
        hidden_dim: Size of a projection.

    Shape:
        [B, L, input_dim] -> [B, D].

    Reference:
        Li et al. 2019, arXiv:1904.12787, equation 3, with a softmax for the sigmoid, as in Ilse et al. 2018,
        arXiv:1802.04712, equation 8.
    """

    def __init__(self, input_dim: int, embedding_dim: PositiveInt = 128, hidden_dim: PositiveInt = 128) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(input_dim)
        joined = input_dim + DEPTH_DIM
        gate = nn.Sequential(nn.Linear(joined, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, hidden_dim))
        value = nn.Sequential(nn.Linear(joined, hidden_dim), nn.GELU())
        self.pool = AttentionalAggregation(gate, value)
        self.project = nn.Linear(hidden_dim, embedding_dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns embeddings. Shape: [B, D]."""
        models, layers, _ = tokens.shape
        depth = depth_features(layers, tokens).expand(models, -1, -1)
        rows, model = flat(torch.cat([self.norm(tokens), depth], dim=2))
        return self.project(self.pool(rows, model, dim_size=models))
