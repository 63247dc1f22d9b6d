"""A network-wide graph encoder that is exactly blind to scales and signs, without any canonical form."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace.encoders import ENCODERS, Symmetry
from peace.encoders.dense_messages import to_inputs, to_outputs
from peace.encoders.graph_decoder import GraphDecoder
from peace.encoders.places import HEADS, NodeMean
from peace.encoders.sweeps import Gates, Sweeps, Tally, log_size, unit
from peace.graph.stack import Stack
from peace.graph.weight_graph import Axis

_FLOOR = 1e-4


@ENCODERS.register("scale_gnn")
class ScaleGNN(nn.Module):
    """One token per layer from message passing that follows each node's scale, so that it need not be divided out.

    Where a neuron's incoming weights and bias are multiplied by λ and what reads it is divided by λ, the network
    computes the same. Each node has two states: h, which is multiplied by λ as its activation is, and g, which is
    divided by λ as its effect on the outputs is. A h goes forward and Aᵀ g backward with each in its own right, so that
    no weight is ever inverted; products of the two are invariant, for negative λ too.

    1. *Sweeps.* h begins with codes of the input nodes' positions and takes up biases b·u on its way forward, g with
       codes of the output nodes' positions on its way back; see `peace.encoders.sweeps`.
    2. *Invariants.* p = ρ(W₁[h, m]) ⊙ W₂[g, n] of states and messages, over its root mean square on the axis. ρ is the
       identity on axes of signs and ReLU elsewhere, which passes positive scales and tells a neuron from its negative.
       Features are LayerNorm(p), the logarithm of its norm beside the other nodes', and asinh of that of the axis.
    3. *Steps.* `num_layers` times h ← h + a₁ ⊙ U h + a₂ ⊙ V m, and g likewise: linear maps of what follows the scale,
       gated by a perceptron of invariants. Messages are brought to the size of the states that they meet, size being
       the root mean square of h ⊙ g on the axis.
    4. *Readout.* A perceptron of the invariants of [h, x] and [g, y], x and y being the sweeps; the token of a layer
       holds its mean over the layer's output nodes and over its input nodes, of those with identities 8 weighted sums.

    A network whose last layer is zero computes a constant; nothing is then known of the layers before it.

    Args:
        hidden_dim: H.
        num_layers: Number of message passing steps after the sweeps.
        code_dim: Numbers that a decoder learns of each hidden node, beside the model's embedding.

    Shape:
        Stack of B models with L layers -> [B, L, 16 H].

    Reference:
        Kalogeropoulos et al. 2024, arXiv:2406.10685, for messages that carry scales. There messages on the way back are
        divided by weights; here a second state goes back, and invariants need no inverse.
    """

    symmetries: ClassVar[frozenset[Symmetry]] = frozenset({"permutation", "positive", "sign"})

    def __init__(self, hidden_dim: PositiveInt = 64, num_layers: PositiveInt = 2, code_dim: PositiveInt = 4) -> None:
        super().__init__()
        self.hidden_dim, self.output_dim, self.code_dim = hidden_dim, 2 * HEADS * hidden_dim, code_dim
        self.sweeps = Sweeps(hidden_dim)
        self.steps = nn.ModuleList(_Step(hidden_dim) for _ in range(num_layers))
        self.invariants = _Invariants(hidden_dim)
        self.readout = _perceptron(hidden_dim, hidden_dim)
        self.mean = NodeMean()

    def forward(self, stack: Stack) -> Tensor:
        """Returns a token per layer. Shape: [B, L, 16 H]."""
        return self.read(stack)[0]

    def decoder(self, embedding_dim: int) -> GraphDecoder:
        """Returns a fresh decoder, which takes what `read` returns of each node."""
        return GraphDecoder(embedding_dim, self.hidden_dim, self.code_dim)

    def read(self, stack: Stack) -> tuple[Tensor, Sequence[Tensor]]:
        """Returns a token per layer, and the state h of each axis's nodes. Shapes: [B, L, 16 H], [B, n, H] each.

        The tokens know no scale or sign; h follows them, so that a decoder can give the weights back as they were.
        """
        graph = stack.graph
        ahead, back, gates = self.sweeps(stack)
        covariant, contravariant = list(ahead.states), list(back.states)
        for step in self.steps:
            arrived, returned = _messages(stack, step, (covariant, contravariant), (ahead.logs, back.logs), gates)
            for place, axis in enumerate(graph.axes):
                log = ahead.logs[place] + back.logs[place]
                states = (covariant[place], contravariant[place], arrived.states[place], returned.states[place])
                covariant[place], contravariant[place] = step(axis, *states, log)
        read = []
        for place, axis in enumerate(graph.axes):
            own = torch.cat([covariant[place], ahead.states[place]], dim=2)
            contributed = torch.cat([contravariant[place], back.states[place]], dim=2)
            features = self.invariants(axis, own, contributed, ahead.logs[place] + back.logs[place])
            read.append(self.mean(self.readout(features), axis))
        tokens = [torch.cat([read[each.out_axis], read[each.in_axis]], dim=1) for each in graph.layers]
        return torch.stack(tokens, dim=1), covariant


class _Invariants(nn.Module):
    """Features of nodes that no scale and no sign changes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.covariant, self.contravariant = (nn.Linear(2 * dim, dim, bias=False) for _ in range(2))
        self.norm = nn.LayerNorm(dim)

    def forward(self, axis: Axis, covariant: Tensor, contravariant: Tensor, log: Tensor) -> Tensor:
        """Returns features. Shapes: [B, n, 2H] each, log of the axis's scales [B] -> [B, n, H + 2]."""
        factor = self.covariant(covariant)
        product = (factor if axis.scaling == "sign" else factor.relu()) * self.contravariant(contravariant)
        product, size = unit(product.to(log))
        strength = (product.square().mean(2, keepdim=True) + _FLOOR).log()
        # Of an axis that nothing has reached from one side, the logarithm is that of zero.
        total = torch.where(product.detach().any(dim=(1, 2)), log + size, 0).asinh()
        return torch.cat([self.norm(product), strength, total[:, None, None].expand_as(strength)], dim=2)


class _Step(nn.Module):
    """One synchronous step of message passing along all layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.forward_message, self.backward_message = (nn.Linear(dim, dim, bias=False) for _ in range(2))
        self.covariant, self.contravariant = (nn.ModuleList(nn.Linear(dim, dim, bias=False) for _ in range(2))
                                              for _ in range(2))  # fmt: skip
        self.invariants = _Invariants(dim)
        self.gates = _perceptron(dim, 4 * dim)

    def forward(self, axis: Axis, h: Tensor, g: Tensor, m: Tensor, n: Tensor, log: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the next states of an axis, [B, n, H] each, from states and messages."""
        size = log_size(h * g)
        m = m * (size - log_size(m * g)).exp()[:, None, None]
        n = n * (size - log_size(h * n)).exp()[:, None, None]
        features = self.invariants(axis, torch.cat([h, m], dim=2), torch.cat([g, n], dim=2), log)
        gates = self.gates(features).chunk(4, dim=2)
        h = h + gates[0] * self.covariant[0](h) + gates[1] * self.covariant[1](m)
        return h, g + gates[2] * self.contravariant[0](g) + gates[3] * self.contravariant[1](n)


def _messages(
    stack: Stack,
    step: _Step,
    states: tuple[list[Tensor], list[Tensor]],
    logs: tuple[list[Tensor], list[Tensor]],
    gates: Gates,
) -> tuple[Tally, Tally]:
    """What each layer sends forward and back."""
    arrived, returned = Tally(stack, states[0][0].shape[2]), Tally(stack, states[0][0].shape[2])
    for place, (layer, weight) in enumerate(zip(stack.graph.layers, stack.weights, strict=True)):
        out, into = layer.out_axis, layer.in_axis
        ahead = to_outputs(weight, step.forward_message(states[0][into]), gates[place][0], layer.groups)
        back = to_inputs(weight, step.backward_message(states[1][out]), gates[place][1], layer.groups)
        arrived.add(out, ahead, logs[0][into])
        returned.add(into, back, logs[1][out])
    return arrived, returned


def _perceptron(dim: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim + 2, dim), nn.GELU(), nn.Linear(dim, outputs))
