"""Graph attention over the weight graph: an ablation of paper a's message passing."""

from pydantic import PositiveInt
from torch import Tensor
from torch_geometric.nn import GATv2Conv

from peace.encoders import ENCODERS
from peace.encoders.edge_list import EdgeList, EdgeListEncoder
from peace.errors import InputError
from peace.graph.pyg import GraphReading


class EdgeAttention(GATv2Conv):
    """Attention of each node over its neighbours, with edge features in its scores."""

    def __init__(self, hidden_dim: int, heads: int) -> None:
        super().__init__(hidden_dim, hidden_dim // heads, heads, add_self_loops=False, edge_dim=hidden_dim)

    def forward(self, x: Tensor, edges: EdgeList) -> Tensor:
        """Returns the next states. Shape: [N, H]."""
        return super().forward(x, edges.index, edges.gate)


@ENCODERS.register("gat")
class GAT(EdgeListEncoder):
    """One token per layer from PyG's graph attention, in whose scores the weights stand.

    α_ij = softmax_j a·LeakyReLU(W₁ h_i + W₂ h_j + W₃ (A_ij γ)), h_i ← h_i + ReLU(Σ_j α_ij W₂ h_j) over LayerNorm(h),
    T times, in both directions at once; γ is a learned function of tap and direction. See `EdgeListEncoder` for nodes
    and tokens.

    Args:
        hidden_dim: H.
        num_layers: T, the number of steps.
        num_heads: Attention heads, H / num_heads numbers each.
        reading: `layers` takes each layer as a graph of its own, `network` shares nodes between layers.

    Shape:
        Stack of B models with L layers -> [B, L, 2 H + 1].

    Raises:
        InputError: H is no multiple of the heads.

    Reference:
        Brody et al. 2022, arXiv:2105.14491, equation 7; Veličković et al. 2018, arXiv:1710.10903. No node hears itself;
        the residual and the normalisation are ours.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 64,
        num_layers: PositiveInt = 3,
        num_heads: PositiveInt = 4,
        reading: GraphReading = "layers",
    ) -> None:
        if hidden_dim % num_heads:
            got = f"hidden_dim {hidden_dim}, num_heads {num_heads}"
            raise InputError("the states do not divide into heads", got=got, expected="a multiple")
        super().__init__(lambda: EdgeAttention(hidden_dim, num_heads), hidden_dim, num_layers, reading)
