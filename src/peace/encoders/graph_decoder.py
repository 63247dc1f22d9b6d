"""A decoder for weight graphs: each weight from the states of its two ends and the embedding of its model."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from peace.encoders.places import PlaceCodes
from peace.graph.stack import Stack


class GraphDecoder(nn.Module):
    """ŵ_ijt = Σ_k u_ik γ_tk v_jk, u a function of node i and z, v one of node j and z, γ of the tap's place.

    The embedding z is the same whatever the order of hidden nodes, so it alone cannot say which of them is first: each
    hidden node adds `code_dim` numbers of its own. Nodes with identities (pixel 17, class 3) add none, only their
    position. All layers share the functions, so that any wiring is decoded, and renumbered models are decoded to
    renumbered weights. A bias is read from u.

    Args:
        embedding_dim: D.
        hidden_dim: H, size of a state, and number of products k.
        code_dim: Numbers that are kept of a hidden node's state.
    """

    def __init__(self, embedding_dim: int, hidden_dim: int, code_dim: int) -> None:
        super().__init__()
        self.code = nn.Sequential(nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, code_dim))
        self.spread = nn.Linear(code_dim, hidden_dim)
        self.places = PlaceCodes(hidden_dim)
        self.embedding = nn.Linear(embedding_dim, hidden_dim)
        self.ends = nn.ModuleList(
            nn.Sequential(nn.LayerNorm(2 * hidden_dim), nn.Linear(2 * hidden_dim, 2 * hidden_dim), nn.ReLU(),
                          nn.Linear(2 * hidden_dim, hidden_dim))
            for _ in range(2)
        )  # fmt: skip
        self.taps = PlaceCodes(hidden_dim)
        self.bias = nn.Linear(hidden_dim, 1)

    def forward(self, embeddings: Tensor, like: Stack, nodes: Sequence[Tensor]) -> Stack:
        """Returns the models that embeddings and codes stand for.

        Args:
            embeddings: Shape: [B, D].
            like: B models of the graph wanted.
            nodes: The state of each axis's nodes. Shape of each: [B, n, H].
        """
        common = self.embedding(embeddings)[:, None]
        writing, reading = [], []
        for axis, states in zip(like.graph.axes, nodes, strict=True):
            if axis.role == "hidden":
                own = self.spread(self.code(states))
            else:
                own = self.places.of(axis.shape, states).expand(len(states), -1, -1)
            known = torch.cat([own, common.expand_as(own)], dim=2)
            writing.append(self.ends[0](known))
            reading.append(self.ends[1](known))
        weights, biases = [], []
        for layer, weight, bias in zip(like.graph.layers, like.weights, like.biases, strict=True):
            u, v = writing[layer.out_axis], reading[layer.in_axis]
            weights.append(self._products(u, v, layer.taps, layer.groups).reshape(weight.shape))
            biases.append(None if bias is None else self.bias(u)[:, :, 0])
        return replace(like, weights=tuple(weights), biases=tuple(biases))

    def _products(self, u: Tensor, v: Tensor, taps: tuple[int, ...], groups: int) -> Tensor:
        """Weights from their ends. Shape: [B, n_out, H], [B, n_in, H] -> [B, n_out, n_in / groups, n_tap]."""
        gates = self.taps.of(taps, u) / u.shape[2] ** 0.5
        parts = [
            (a[:, :, None] * gates).flatten(1, 2) @ b.mT
            for a, b in zip(u.chunk(groups, 1), v.chunk(groups, 1), strict=True)
        ]
        found = torch.cat(parts, dim=1)
        return found.unflatten(1, (u.shape[1], len(gates))).transpose(2, 3)
