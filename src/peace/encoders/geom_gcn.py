"""Geom-GCN over the weight graph: structural neighbourhoods in a latent space, aggregated in two levels."""

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from peace.encoders import ENCODERS
from peace.encoders.edge_list import EdgeList, EdgeListEncoder
from peace.graph.pyg import GraphReading

_LANDMARKS, _RELATIONS = 9, 6


class GeometricConv(MessagePassing):
    """W [e_1, ..., e_6]: sums over the neighbours in each relation, joined and mapped.

    Args:
        hidden_dim: H.
        radius: ρ, in which distances in the latent space are measured.
    """

    def __init__(self, hidden_dim: int, radius: float) -> None:
        super().__init__(aggr="sum", node_dim=0)
        self.radius = radius
        self.join = nn.Linear(_RELATIONS * hidden_dim, hidden_dim)

    def forward(self, x: Tensor, edges: EdgeList) -> Tensor:
        """Returns the next states. Shape: [N, H]."""
        place = edges.place.tanh()
        ahead, back = (
            self.propagate(index, x=x, place=place, gate=gate)
            for index, gate in zip(edges.index.chunk(2, dim=1), (edges.gate * edges.share).chunk(2), strict=True)
        )
        return self.join(torch.cat([ahead, back, self._near(x, place, edges.span)], dim=1))

    def message(self, x_j: Tensor, place_i: Tensor, place_j: Tensor, gate: Tensor) -> Tensor:
        """Returns what each edge says in the relations `sender below` and `sender above`. Shape: [E, 2 H]."""
        above = torch.sigmoid((place_j - place_i) / self.radius)[:, None]
        said = gate * x_j
        return torch.cat([(1 - above) * said, above * said], dim=1)

    def _near(self, x: Tensor, place: Tensor, span: Tensor) -> Tensor:
        """Means over latent neighbours below and above each node, by way of landmarks. Shape: [N, 2 H]."""
        offset = (torch.linspace(-1, 1, _LANDMARKS, device=x.device, dtype=place.dtype) - place[:, None]) / self.radius
        near, spans = torch.exp(-offset.square() / 2), int(span[-1]) + 1
        told = scatter(near[:, :, None] * x[:, None, :], span, dim_size=spans)
        means = (told / scatter(near, span, dim_size=spans)[:, :, None])[span]
        above = torch.sigmoid(offset)
        heard = (near * (1 - above), near * above)
        return torch.cat([(part[:, :, None] * means).sum(1) / part.sum(1, keepdim=True) for part in heard], dim=1)


@ENCODERS.register("geom_gcn")
class GeomGCN(EdgeListEncoder):
    """One token per layer from Geom-GCN: neighbours in the graph and in a latent space, relation by relation.

    The paper's latent space comes from an embedding method, its neighbourhoods are all nodes that are connected and all
    that are nearer than ρ, and a relation is one of four quadrants. Here

    1. *Latent space.* A node has two coordinates: the axis that it stands on (depth), and tanh of the sum of its
       weights over √k, both directions together. Both follow the node when neurons are renumbered.
    2. *Graph neighbourhood.* Four relations: the sender before or behind in depth, times below or above in the other
       coordinate. e_r = Σ_j τ_r(i, j) A_ij γ ⊙ h_j / √k.
    3. *Latent neighbourhood.* Nodes of the same axis, in two relations, below and above: means over them that fall off
       as exp(-d²/2ρ²). They go by way of 9 landmarks in the space, at which the nodes near by leave their mean: pairs
       of neurons would cost the square of their number.
    4. *Two levels.* The sums of each relation are joined and mapped, h ← h + ReLU(W [e_1, ..., e_6]) over LayerNorm(h).

    Below and above are sigmoids of the difference over ρ, not hard: a token must not jump when two neurons have almost
    the same coordinate, which rounding decides. See `EdgeListEncoder` for nodes and tokens.

    Args:
        hidden_dim: H.
        num_layers: T, the number of steps.
        radius: ρ.
        reading: `layers` takes each layer as a graph of its own, `network` shares nodes between layers.

    Shape:
        Stack of B models with L layers -> [B, L, 2 H + 1].

    Reference:
        Pei et al. 2020, arXiv:2002.05287, sections 3.1 and 3.2, equations 2 to 4.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 64,
        num_layers: PositiveInt = 3,
        radius: PositiveFloat = 0.5,
        reading: GraphReading = "layers",
    ) -> None:
        super().__init__(lambda: GeometricConv(hidden_dim, radius), hidden_dim, num_layers, reading)
