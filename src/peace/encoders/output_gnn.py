"""The layer-wise graph encoder of paper b: a layer's output neurons or channels are the nodes."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional as F

from peace.encoders import ENCODERS, LayerEncoder
from peace.encoders.feature_expansion import Expansion, FeatureExpansion
from peace.encoders.kinds import Kinds, OfKind
from peace.encoders.places import PlaceCodes
from peace.graph.weight_graph import Layer

_HEADS = 4

Mixing = Literal["attention", "deepsets"]
HiddenDim = Annotated[int, Field(gt=0, multiple_of=_HEADS)]

_STATISTICS = 7
_MOST_ATTENDING = 4096
_FLOOR = 1e-6


@ENCODERS.register("output_gnn")
class OutputGNN(LayerEncoder):
    """One token per layer from its output nodes, exactly invariant to their order and to that of the inputs.

    1. *Features* of node i, in units of the layer's root mean square weight r: bias over r·√(weights of a row); mean,
       mean absolute value, root mean square, fourth root of the mean fourth power, largest and smallest of the weights
       of row i; where the layer has taps, Σ_t [mean_j A_ijt · c_t, rms_j A_ijt · d_t], c and d learned codes of the
       tap's place, so that the shape of the kernel is seen.
    2. *Updates*, `num_layers` times. `attention`: nodes attend to each other, then a perceptron, each after a LayerNorm
       and added to the state; among more than 4,096 nodes, where its cost would pass that of reading the layer, every
       node attends to all alike. `deepsets`: h_i ← h_i + MLP(LayerNorm[h_i, mean h]).
    3. *Readout.* Mean and standard deviation over the nodes, and log r.

    Args:
        hidden_dim: H, a multiple of 4, the number of heads.
        num_layers: T, the number of updates.
        mixing: How nodes hear of each other.
        feature_expansion: K: features of K hops along the layer and K structural components beside the features
            themselves, see `peace.encoders.feature_expansion`; 0 for none, at most 6.
        kinds: `shared`: one module for all kinds of layers; `each`: one for each kind.

    Shape:
        Stack of B models with L layers -> [B, L, 2 H + 1].

    Reference:
        PEACE proposal, section 3, "Layer-Level Graph Representation" and "Equivariant GNN Module"; Vaswani et al. 2017,
        arXiv:1706.03762, for attention; Zaheer et al. 2017, arXiv:1703.06114, for DeepSets.
    """

    def __init__(
        self,
        hidden_dim: HiddenDim = 64,
        num_layers: PositiveInt = 2,
        mixing: Mixing = "attention",
        feature_expansion: Expansion = 0,
        kinds: Kinds = "shared",
    ) -> None:
        super().__init__()
        self.output_dim = 2 * hidden_dim + 1
        self.nodes = OfKind(lambda: _Nodes(hidden_dim, num_layers, mixing, feature_expansion), kinds)

    def token(self, layer: Layer, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the tokens of one layer of B models. Shape: [B, 2 H + 1]."""
        size = torch.linalg.vector_norm(weight, dim=(1, 2, 3)) / weight[0].numel() ** 0.5
        size = torch.where(size > 0, size, 1)
        nodes = self.nodes.of(layer)(layer, weight, bias, size)
        spread = (nodes.var(1, correction=0) + _FLOOR).sqrt()
        return torch.cat([nodes.mean(1), spread, size.log()[:, None]], dim=1)


class _Nodes(nn.Module):
    """The states of a layer's output nodes after all updates."""

    def __init__(self, dim: int, num_layers: int, mixing: Mixing, expansion: int) -> None:
        super().__init__()
        self.dim, self.tap_codes = dim, PlaceCodes(2 * dim)
        self.start = FeatureExpansion(_STATISTICS + dim, dim, expansion)
        update = _Attention if mixing == "attention" else _DeepSets
        self.updates = nn.ModuleList(update(dim) for _ in range(num_layers))

    def forward(self, layer: Layer, weight: Tensor, bias: Tensor | None, size: Tensor) -> Tensor:
        """Returns states. Shape: [B, n_out, H]."""
        features = torch.cat([_statistics(weight, bias, size), self._kernels(layer, weight, size)], dim=2)
        nodes = self.start(features, weight, layer.groups)
        for update in self.updates:
            nodes = update(nodes)
        return nodes

    def _kernels(self, layer: Layer, weight: Tensor, size: Tensor) -> Tensor:
        """What the taps of each node hold, by their places. Shape: [B, n_out, H]."""
        if layer.n_tap == 1:
            return weight.new_zeros(*weight.shape[:2], self.dim)
        means, sizes = self.tap_codes.of(layer.taps, weight).div(layer.n_tap**0.5).chunk(2, dim=1)
        root = torch.linalg.vector_norm(weight, dim=2) / weight.shape[2] ** 0.5
        return (weight.mean(2) @ means + root @ sizes) / size[:, None, None]


def _statistics(weight: Tensor, bias: Tensor | None, size: Tensor) -> Tensor:
    """The bias and the row of each node as numbers in range. Shape: [B, n_out, 7]."""
    count = weight[0, 0].numel()
    powers = [torch.linalg.vector_norm(weight, ord=p, dim=(2, 3)) / count ** (1 / p) for p in (1, 2, 4)]
    rows = [weight.mean((2, 3)), *powers, weight.amax((2, 3)), weight.amin((2, 3))]
    own = weight.new_zeros(weight.shape[:2]) if bias is None else bias / count**0.5
    return (torch.stack([own, *rows], dim=2) / size[:, None, None]).asinh()


class _Attention(nn.Module):
    """A transformer's layer among the nodes of a layer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.project = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 3 * dim))
        self.out = nn.Linear(dim, dim)
        self.update = nn.Sequential(nn.LayerNorm(dim), _perceptron(dim, dim))

    def forward(self, nodes: Tensor) -> Tensor:
        """Returns the next states. Shape: [B, n, H]."""
        split = self.project(nodes).unflatten(2, (3, _HEADS, -1)).permute(2, 0, 3, 1, 4)
        if nodes.shape[1] > _MOST_ATTENDING:
            heard = split[2].mean(2, keepdim=True)
        else:
            heard = F.scaled_dot_product_attention(*split)
        nodes = nodes + self.out(heard.transpose(1, 2).flatten(2))
        return nodes + self.update(nodes)


class _DeepSets(nn.Module):
    """Each node beside the mean of all."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.update = nn.Sequential(nn.LayerNorm(2 * dim), _perceptron(2 * dim, dim))

    def forward(self, nodes: Tensor) -> Tensor:
        """Returns the next states. Shape: [B, n, H]."""
        return nodes + self.update(torch.cat([nodes, nodes.mean(1, keepdim=True).expand_as(nodes)], dim=2))


def _perceptron(inputs: int, dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, dim), nn.GELU(), nn.Linear(dim, dim))
