"""The network-wide graph encoder: nodes shared between layers, so that the wiring from inputs to outputs is seen."""

import torch
from torch import Tensor, nn

from peace.encoders import ENCODERS
from peace.encoders.dense_messages import to_inputs, to_outputs
from peace.encoders.positions import POSITION_DIM, grid_positions
from peace.graph.stack import Stack
from peace.graph.weight_graph import Layer


@ENCODERS.register("network_gnn")
class NetworkGNN(nn.Module):
    """One token per layer from message passing over the whole network.

    All layers that touch an axis share its nodes. Input and output nodes start from position features, for they have
    identities; hidden nodes start alike, but for their bias. Each step sends messages along every weight in both
    directions, Σ_j Σ_t A_ijt γ_t ⊙ φ(h_j), and updates h ← h + W m + MLP(LayerNorm([h, m])), m the messages from both
    sides. The linear path keeps products of weights along paths through the network intact. After `num_layers` steps a
    layer's token is the mean over its output nodes and the mean over its input nodes of a learned feature, with the
    logarithm of its norm.

    Weights enter at root-mean-square row norm 1, so that a layer's scale reaches the token by that logarithm alone.

    Args:
        hidden_dim: H.
        num_layers: Number of message passing steps; a step carries information across one layer.

    Shape:
        Stack of B models with L layers -> [B, L, 2H + 1].

    Reference:
        Kofinas et al. 2024, arXiv:2403.12143, for the graph (neurons as nodes, weights as edges, position features on
        inputs and outputs); dense products, tap gates and the linear path are ours.
    """

    def __init__(self, hidden_dim: int = 64, num_layers: int = 3) -> None:
        super().__init__()
        self.output_dim = 2 * hidden_dim + 1
        self.input_positions = nn.Linear(POSITION_DIM, hidden_dim)
        self.output_positions = nn.Linear(POSITION_DIM, hidden_dim)
        self.hidden_start = nn.Parameter(torch.randn(hidden_dim))
        self.bias_direction = nn.Parameter(torch.randn(hidden_dim))
        self.tap_gate = nn.Sequential(
            nn.Linear(POSITION_DIM, hidden_dim), nn.GELU(), nn.Linear(hidden_dim, 2 * hidden_dim)
        )
        self.steps = nn.ModuleList(_Step(hidden_dim) for _ in range(num_layers))
        self.readout = nn.Sequential(
            nn.LayerNorm(hidden_dim), nn.Linear(hidden_dim, 2 * hidden_dim), nn.GELU(), nn.Linear(2 * hidden_dim, hidden_dim)
        )

    def forward(self, stack: Stack) -> Tensor:
        """Returns a token per layer. Shape: [B, L, 2H + 1]."""
        norms = [_norm(weight) for weight in stack.weights]
        gates = [self._gates(layer, stack.weights[0]) for layer in stack.graph.layers]
        states = self._start(stack, norms)
        for step in self.steps:
            states = step(stack, states, norms, gates)
        features = [self.readout(state).mean(1) for state in states]
        return torch.stack(
            [
                torch.cat([features[layer.out_axis], features[layer.in_axis], norm.log()[:, None]], dim=1)
                for layer, norm in zip(stack.graph.layers, norms, strict=True)
            ],
            dim=1,
        )

    def _gates(self, layer: Layer, like: Tensor) -> tuple[Tensor, Tensor]:
        """Gates of the taps, one set for each direction. Shape: [n_tap, H] each."""
        forward, backward = self.tap_gate(grid_positions(layer.taps, like)).chunk(2, dim=1)
        return 1 + forward, 1 + backward

    def _start(self, stack: Stack, norms: list[Tensor]) -> list[Tensor]:
        """Initial states of every axis. Shape: [B, n, H] each."""
        states = []
        for place, axis in enumerate(stack.graph.axes):
            if axis.role == "hidden":
                start = self.hidden_start.expand(axis.size, -1)
            else:
                project = self.input_positions if axis.role == "input" else self.output_positions
                start = project(grid_positions(axis.shape, stack.weights[0]))
            state = start.expand(len(stack), -1, -1)
            for writer in stack.graph.writers(place):
                bias = stack.biases[writer]
                if bias is not None:
                    scaled = bias * (axis.size**0.5 / norms[writer])[:, None]
                    state = state + scaled[:, :, None] * self.bias_direction
            states.append(state)
        return states


def _norm(weight: Tensor) -> Tensor:
    """Each model's norm of a layer; 1 where all weights are zero, so that the layer sends nothing. Shape: [B]."""
    norm = weight.flatten(1).norm(dim=1)
    return torch.where(norm > 0, norm, 1)


class _Step(nn.Module):
    """One synchronous step of message passing over all layers."""

    def __init__(self, hidden_dim: int) -> None:
        super().__init__()
        self.forward_message = nn.Linear(hidden_dim, hidden_dim)
        self.backward_message = nn.Linear(hidden_dim, hidden_dim)
        self.linear = nn.Linear(2 * hidden_dim, hidden_dim, bias=False)
        self.update = nn.Sequential(
            nn.LayerNorm(3 * hidden_dim), nn.Linear(3 * hidden_dim, 2 * hidden_dim), nn.GELU(), nn.Linear(2 * hidden_dim, hidden_dim)
        )  # fmt: skip

    def forward(
        self, stack: Stack, states: list[Tensor], norms: list[Tensor], gates: list[tuple[Tensor, Tensor]]
    ) -> list[Tensor]:
        """Returns the next states of every axis, [B, n, H] each."""
        ahead = [torch.zeros_like(state) for state in states]
        back = [torch.zeros_like(state) for state in states]
        for layer, weight, norm, (gate_ahead, gate_back) in zip(
            stack.graph.layers, stack.weights, norms, gates, strict=True
        ):
            unit = weight / norm[:, None, None, None]
            sent = to_outputs(unit * weight.shape[1] ** 0.5, self.forward_message(states[layer.in_axis]), gate_ahead)
            ahead[layer.out_axis] = ahead[layer.out_axis] + sent
            sent = to_inputs(unit * weight.shape[2] ** 0.5, self.backward_message(states[layer.out_axis]), gate_back)
            back[layer.in_axis] = back[layer.in_axis] + sent
        following = []
        for state, *messages in zip(states, ahead, back, strict=True):
            joined = torch.cat([state, *messages], dim=2)
            following.append(state + self.linear(joined[..., state.shape[2] :]) + self.update(joined))
        return following
