"""The layer-wise graph encoder of paper a, section 3.2: every layer its own bipartite graph, one network for all."""

from collections.abc import Callable

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace.encoders import ENCODERS, LayerEncoder
from peace.encoders.dense_messages import to_inputs, to_outputs
from peace.encoders.feature_expansion import Expansion, FeatureExpansion
from peace.encoders.kinds import Kinds, OfKind
from peace.encoders.places import PlaceCodes
from peace.graph.weight_graph import Layer

_CACHED = 2**18


@ENCODERS.register("layer_gnn")
class LayerGNN(LayerEncoder):
    """One token per layer, exactly invariant to the order of its input nodes and of its output nodes.

    m_i = Σ_j A_ji φ(h_j) / √(deg(i) deg(j)),  h_i ← ReLU(ψ(h_i) + m_i),  T times, messages in both directions;
    z = mean of h over all input and output nodes (paper a, 3.2). φ and ψ are two-layer perceptrons, shared by all
    steps, directions and layers, as the paper writes them. Initial states are b_i·u for output nodes, u learned, and
    zero for input nodes ("zero vectors or incorporate bias terms"). The paper's layers have one weight an edge: where a
    layer has taps, each is an edge of its own, whose message is multiplied by a learned function γ of the tap's place,
    because their plain sum would see only the sum of a kernel. The graph is expected Frobenius-normalised (3.1). Of an
    edge that is alone at both its nodes (a parameter of one number, a depthwise kernel of one tap) only the
    sign is left after the degrees.

    Args:
        hidden_dim: H.
        num_layers: T, the number of message passing steps.
        feature_expansion: K: output nodes start with their bias, what K hops along the layer make of it, and K
            structural components, see `peace.encoders.feature_expansion`; 0 for the bias alone, at most 6.
        kinds: `shared`: one network for all kinds of layers, as in the paper; `each`: one for each kind.

    Shape:
        Stack of B models with L layers -> [B, L, H].

    Reference:
        Permutation-Equivariant Contrastive Embeddings, section 3.2.
    """

    def __init__(
        self,
        hidden_dim: PositiveInt = 64,
        num_layers: PositiveInt = 3,
        feature_expansion: Expansion = 0,
        kinds: Kinds = "shared",
    ) -> None:
        super().__init__()
        self.output_dim = hidden_dim
        self.graph = OfKind(lambda: _LayerGraph(hidden_dim, num_layers, feature_expansion), kinds)

    def token(self, layer: Layer, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the tokens of one layer of B models. Shape: [B, H]."""
        return self.graph.of(layer)(layer, weight, bias)


class _LayerGraph(nn.Module):
    """The mean state of a layer's nodes after T steps."""

    def __init__(self, hidden_dim: int, num_layers: int, expansion: Expansion) -> None:
        super().__init__()
        self.hidden_dim, self.num_layers = hidden_dim, num_layers
        self.bias_direction = nn.Parameter(torch.randn(hidden_dim))
        self.expansion = FeatureExpansion(1, hidden_dim, expansion) if expansion else None
        self.message = _perceptron(hidden_dim, hidden_dim)
        self.update = _perceptron(hidden_dim, hidden_dim)
        self.tap_gate = PlaceCodes(hidden_dim)

    def forward(self, layer: Layer, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns tokens. Shape: [B, H]."""
        groups, taps = layer.groups, weight.shape[3]
        gates = self.tap_gate.of(layer.taps, weight) if taps > 1 else None
        of_inputs, of_outputs = _inverse_roots(weight, groups)
        # Nodes that are all alike are one node until messages tell them apart.
        inputs = outputs = weight.new_zeros(len(weight), 1, self.hidden_dim)
        if bias is not None:
            outputs = bias[:, :, None] * self.bias_direction
        if self.expansion is not None:
            own = weight.new_zeros(*weight.shape[:2], 1) if bias is None else bias[:, :, None]
            outputs = outputs + self.expansion(own, weight, groups)
        for _ in range(self.num_layers):
            # A_ij / √(deg(i) deg(j)) is never made: degrees multiply states, of which there are fewer.
            into_inputs = _sent(to_inputs, weight, self.message(outputs), of_outputs, gates, groups)
            into_outputs = _sent(to_outputs, weight, self.message(inputs), of_inputs, gates, groups)
            inputs = torch.addcmul(self.update(inputs), into_inputs, of_inputs).relu_()
            outputs = torch.addcmul(self.update(outputs), into_outputs, of_outputs).relu_()
        return (inputs.sum(1) + outputs.sum(1)) / (inputs.shape[1] + outputs.shape[1])


def _sent(
    send: Callable[..., Tensor], weight: Tensor, messages: Tensor, roots: Tensor, gates: Tensor | None, groups: int
) -> Tensor:
    """What the other side hears of messages over √deg; one message of nodes that are all alike goes out as rank one.

    Shape: [B, n or 1, H] -> [B, n of the other side, H].
    """
    taps = weight.shape[3]
    if messages.shape[1] == roots.shape[1] or taps >= messages.shape[2]:
        return send(weight, messages * roots, gates, groups)
    if gates is None:
        return send(weight, roots, None, groups) * messages
    of_taps = send(weight, roots.expand(-1, -1, taps), torch.eye(taps).to(weight), groups)
    return of_taps @ (gates * messages)


def _inverse_roots(weight: Tensor, groups: int) -> list[Tensor]:
    """1 / √deg of each input node and of each output node, degrees being sums of absolute weights. [B, n, 1] each."""
    rows = weight.flatten(2).unflatten(1, (groups, -1))
    of_edges, of_outputs, ones = 0, [], rows.new_ones(rows.shape[3], 1)
    # Absolute values of as many rows at a time as stay in a processor's cache; products with ones, because sums over
    # one dimension of several are slower.
    # Autocast would round them to half precision, which it does not do to sums.
    with torch.autocast(weight.device.type, enabled=False):
        for some in rows.split(max(_CACHED // (rows[:, :, 0].numel()), 1), dim=2):
            absolute = some.abs()
            of_edges = of_edges + (rows.new_ones(1, absolute.shape[2]) @ absolute)[:, :, 0]
            of_outputs.append((absolute @ ones)[..., 0])
    # Taps are summed last: sums over two dimensions at a time are several times slower.
    of_inputs = of_edges.unflatten(2, weight.shape[2:]).sum(3).flatten(1)
    degrees = (of_inputs, torch.cat(of_outputs, dim=2).flatten(1))
    return [torch.where(degree > 0, degree, 1).rsqrt()[:, :, None] for degree in degrees]


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.ReLU(inplace=True), nn.Linear(outputs, outputs))
