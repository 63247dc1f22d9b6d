"""The layer-wise graph encoder of paper a, section 3.2: every layer its own bipartite graph, one network for all."""

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace.encoders import ENCODERS, LayerEncoder
from peace.encoders.dense_messages import to_inputs, to_outputs
from peace.encoders.positions import POSITION_DIM, grid_positions
from peace.graph.weight_graph import Layer


@ENCODERS.register("layer_gnn")
class LayerGNN(LayerEncoder):
    """One token per layer, exactly invariant to the order of its input nodes and of its output nodes.

    m_i = Σ_j A_ji φ(h_j) / √(deg(i) deg(j)),  h_i ← ReLU(ψ(h_i) + m_i),  T times, messages in both directions;
    z = mean of h over all input and output nodes (paper a, 3.2). φ and ψ are two-layer perceptrons, shared by all
    steps, directions and layers, as the paper writes them. Initial states are b_i·u for output nodes, u learned, and
    zero for input nodes ("zero vectors or incorporate bias terms"). The paper's layers have one weight an edge: where a
    layer has taps, each is an edge of its own, whose message is multiplied by a learned function γ of the tap's place,
    because their plain sum would see only the sum of a kernel. The graph is expected Frobenius-normalised (3.1). Of an
    edge that is alone at both its nodes (a parameter of one number, a depthwise kernel of one tap) the degrees leave
    the sign alone.

    Args:
        hidden_dim: H.
        num_layers: T, the number of message passing steps.

    Shape:
        Stack of B models with L layers -> [B, L, H].

    Reference:
        Permutation-Equivariant Contrastive Embeddings, section 3.2.
    """

    def __init__(self, hidden_dim: PositiveInt = 64, num_layers: PositiveInt = 3) -> None:
        super().__init__()
        self.output_dim = hidden_dim
        self.num_layers = num_layers
        self.bias_direction = nn.Parameter(torch.randn(hidden_dim))
        self.message = _perceptron(hidden_dim, hidden_dim)
        self.update = _perceptron(hidden_dim, hidden_dim)
        self.tap_gate = nn.Linear(POSITION_DIM, hidden_dim, bias=False)
        nn.init.normal_(self.tap_gate.weight)

    def token(self, layer: Layer, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the tokens of one layer of B models. Shape: [B, H]."""
        groups, n_tap = layer.groups, weight.shape[3]
        gates = self.tap_gate(grid_positions(layer.taps, weight)) if n_tap > 1 else None
        normalised = _degree_normalised(weight, groups)
        inputs = weight.new_zeros(len(weight), groups * weight.shape[2], self.output_dim)
        outputs = weight.new_zeros(len(weight), weight.shape[1], self.output_dim)
        if bias is not None:
            outputs = bias[:, :, None] * self.bias_direction
        for _ in range(self.num_layers):
            into_outputs = to_outputs(normalised, self.message(inputs), gates, groups)
            into_inputs = to_inputs(normalised, self.message(outputs), gates, groups)
            inputs = torch.relu(self.update(inputs) + into_inputs)
            outputs = torch.relu(self.update(outputs) + into_outputs)
        return torch.cat([inputs, outputs], dim=1).mean(1)


def _degree_normalised(weight: Tensor, groups: int) -> Tensor:
    """A_ij / √(deg(i) deg(j)), degrees being sums of absolute weights."""
    weight = weight.unflatten(1, (groups, -1))
    degrees = [weight.abs().sum(dims, keepdim=True) for dims in ((3, 4), (2, 4))]
    of_outputs, of_inputs = (torch.where(degree > 0, degree, 1) for degree in degrees)
    return (weight / (of_outputs * of_inputs).sqrt()).flatten(1, 2)


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(), nn.Linear(outputs, outputs))
