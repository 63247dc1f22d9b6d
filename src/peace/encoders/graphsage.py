"""GraphSAGE over the weight graph: an ablation of paper a's message passing."""

from pydantic import PositiveInt
from torch import Tensor
from torch_geometric.nn import SAGEConv

from peace.encoders import ENCODERS
from peace.encoders.edge_list import EdgeList, EdgeListEncoder
from peace.graph.pyg import GraphReading


class WeightedSAGE(SAGEConv):
    """W₁ h_i + W₂ Σ_j (A_ij γ ⊙ h_j) / √k, k being the edges of a layer at node i."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__(hidden_dim, hidden_dim, aggr="sum")

    def forward(self, x: Tensor, edges: EdgeList) -> Tensor:
        """Returns the next states. Shape: [N, H]."""
        # PyG builds `propagate` from this line:
        # propagate_type: (x: Tensor, gate: Tensor)
        heard = self.propagate(edges.index, x=x, gate=edges.gate * edges.share)
        return self.lin_l(heard) + self.lin_r(x)

    def message(self, x_j: Tensor, gate: Tensor) -> Tensor:
        """Returns what each edge says. Shape: [2 E, H]."""
        return gate * x_j


@ENCODERS.register("graphsage")
class GraphSAGE(EdgeListEncoder):
    """One token per layer from PyG's GraphSAGE, its messages multiplied by the weights.

    h_i ← h_i + ReLU(W₁ h_i + W₂ Σ_j A_ij γ ⊙ h_j / √k) over LayerNorm(h), T times, in both directions; see
    `EdgeListEncoder` for nodes and tokens.

    Args:
        hidden_dim: H.
        num_layers: T, the number of steps.
        reading: `layers` takes each layer as a graph of its own, `network` shares nodes between layers.

    Shape:
        Stack of B models with L layers -> [B, L, 2 H + 1].

    Reference:
        Hamilton et al. 2017, arXiv:1706.02216, algorithm 1 with the mean aggregator. It knows no edge features, and
        every layer is complete, so that it would not see a single weight: here a message is multiplied by the weight A
        and a learned function γ of tap and direction. As weights have either sign, the mean over k neighbours is
        multiplied by √k. All neighbours are heard, none are sampled.
    """

    def __init__(
        self, hidden_dim: PositiveInt = 64, num_layers: PositiveInt = 3, reading: GraphReading = "layers"
    ) -> None:
        super().__init__(lambda: WeightedSAGE(hidden_dim), hidden_dim, num_layers, reading)
