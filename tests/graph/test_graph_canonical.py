from dataclasses import replace

import pytest
import torch
from graph_networks import MODELS, NETWORKS, Network, cnn, distance, mlp, named, network, permuting
from torch import Tensor, nn

from peace.graph.canonical import canonical_form, frobenius_normalised, sign_cover
from peace.graph.stack import Stack
from peace.graph.symmetry import GroupElement, sample


def element(stack: Stack, seed: int) -> GroupElement:
    return sample(stack.graph, len(stack), torch.Generator().manual_seed(seed))


def close(network: Network, stack: Stack, other: Stack | None = None) -> bool:
    expected = network.outputs(other or network.stack)
    return ((network.outputs(stack) - expected).abs().max() <= 1e-12 * expected.abs().max()).item()


def incoming(stack: Stack, axis: int) -> Tensor:
    (layer,) = stack.graph.writers(axis)
    weight, bias = stack.weights[layer].flatten(2), stack.biases[layer]
    return weight if bias is None else torch.cat([weight, bias[:, :, None]], dim=2)


def without_neuron(stack: Stack, axis: int, neuron: int) -> Stack:
    """The stack with a neuron's incoming weights and bias set to zero."""
    (layer,) = stack.graph.writers(axis)
    weights, biases = [list(part) for part in (stack.map(Tensor.clone).weights, stack.map(Tensor.clone).biases)]
    weights[layer][:, neuron] = 0
    biases[layer][:, neuron] = 0
    return replace(stack, weights=tuple(weights), biases=tuple(biases))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_does_not_change(name: str) -> None:
    network = named(name)
    assert close(network, canonical_form(network.stack))
    moved = element(network.stack, 0).apply(network.stack)
    assert close(network, canonical_form(moved))


@pytest.mark.parametrize("name", NETWORKS)
def test_an_orbit_has_one_representative(name: str) -> None:
    stack = named(name).stack
    representative = canonical_form(stack)
    for seed in range(5):
        g = element(stack, seed)
        expected = permuting(g).apply(representative)
        assert distance(canonical_form(g.apply(stack)), expected) < 1e-9
    if any(axis.scaling != "none" for axis in stack.graph.axes):
        assert distance(representative, stack) > 0.1


@pytest.mark.parametrize("name", ["mlp-relu-bias", "cnn-tanh-nobias", "averaged"])
def test_it_is_its_own_representative(name: str) -> None:
    once = canonical_form(named(name).stack)
    assert distance(canonical_form(once), once) < 1e-12


@pytest.mark.parametrize("name", NETWORKS)
def test_incoming_weights_have_norm_one_or_a_positive_sum_of_cubes(name: str) -> None:
    stack = named(name).stack
    representative = canonical_form(stack)
    for axis in stack.graph.hidden:
        found = incoming(representative, axis)
        if stack.graph.axes[axis].scaling == "positive":
            torch.testing.assert_close(found.norm(dim=2), torch.ones(found.shape[:2], dtype=found.dtype))
        elif stack.graph.axes[axis].scaling == "sign":
            assert (found.pow(3).sum(2) > 0).all() and (incoming(stack, axis).pow(3).sum(2) < 0).any()


def test_by_hand() -> None:
    net = network(nn.Sequential(nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 1)), 1)
    tensors = {"0.weight": [[[3.0], [-5.0]]], "0.bias": [[4.0, 12.0]], "2.weight": [[[1.0, 2.0]]], "2.bias": [[7.0]]}
    stack = canonical_form(Stack.of(net.stack.graph, {name: torch.tensor(value) for name, value in tensors.items()}))
    assert stack.weights[0].flatten().tolist() == pytest.approx([3 / 5, -5 / 13])
    assert stack.biases[0].tolist() == [pytest.approx([4 / 5, 12 / 13])]
    assert stack.weights[1].flatten().tolist() == [5.0, 26.0] and stack.biases[1].tolist() == [[7.0]]
    flipped = canonical_form(Stack.of(_tanh().graph, {name: torch.tensor(value) for name, value in tensors.items()}))
    # 3³ + 4³ > 0 and -5³ + 12³ > 0 keep their signs; their negatives get them back.
    assert flipped.weights[0].flatten().tolist() == [3.0, -5.0]
    tensors |= {"0.weight": [[[-3.0], [5.0]]], "0.bias": [[-4.0, -12.0]]}
    flipped = canonical_form(Stack.of(_tanh().graph, {name: torch.tensor(value) for name, value in tensors.items()}))
    assert flipped.weights[0].flatten().tolist() == [3.0, -5.0] and flipped.biases[0].tolist() == [[4.0, 12.0]]
    assert flipped.weights[1].flatten().tolist() == [-1.0, -2.0]


def _tanh() -> Stack:
    return network(nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)), 1).stack


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_neurons_without_incoming_weights(activation: str) -> None:
    network = mlp(activation)
    dead = without_neuron(network.stack, axis=1, neuron=2)
    representative = canonical_form(dead)
    assert all(tensor.isfinite().all() for tensor in (*representative.weights, *representative.biases))
    assert close(network, representative, dead)
    g = element(dead, 1)
    assert distance(canonical_form(g.apply(dead)), permuting(g).apply(representative)) < 1e-9
    assert (representative.weights[1][:, :, 2] == 0).all()


@pytest.mark.parametrize("normal_form", [canonical_form, sign_cover, frobenius_normalised])
@pytest.mark.parametrize("name", ["mlp-relu-bias", "mlp-tanh-bias", "averaged"])
def test_erased_layers_stay_finite(normal_form: type, name: str) -> None:
    stack = named(name).stack
    for layer in range(len(stack.weights)):
        weights, biases = list(stack.weights), list(stack.biases)
        weights[layer] = torch.zeros_like(weights[layer])
        if biases[layer] is not None:
            biases[layer] = torch.zeros_like(biases[layer])
        found = normal_form(replace(stack, weights=tuple(weights), biases=tuple(biases)))
        assert (found.weights[layer] == 0).all()
        assert all(tensor.isfinite().all() for tensor in (*found.weights, *found.biases) if tensor is not None)


COVERED = {
    "mlp": (mlp("tanh"), mlp("tanh", hidden=(12, 10))),
    "mlp-nobias": (mlp("tanh", bias=False), mlp("tanh", bias=False, hidden=(12, 10))),
    "cnn-pooled": (cnn("tanh"), cnn("tanh", channels=(4, 10), hidden=(12,))),
    "cnn": (cnn("tanh", pools=(1, 1)), cnn("tanh", pools=(1, 1), channels=(8, 10), hidden=(12,))),
}
"""Networks with sign axes, and the module that their cover is the weights of."""


@pytest.mark.parametrize("name", COVERED)
def test_the_covered_network_computes_the_same(name: str) -> None:
    narrow, wide = COVERED[name]
    covered = sign_cover(narrow.stack)
    assert [axis.size for axis in covered.graph.axes] == [axis.size for axis in wide.stack.graph.axes]
    assert all(axis.scaling == "none" for axis in covered.graph.axes)
    assert covered.graph.layers == wide.stack.graph.layers
    found, expected = replace(wide, x=narrow.x).outputs(covered), narrow.outputs(narrow.stack)
    assert (found - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("name", COVERED)
def test_flipping_signs_renumbers_the_covered_nodes(name: str) -> None:
    stack = COVERED[name][0].stack
    g = element(stack, 3)
    orders = {}
    for axis, order in g.orders.items():
        size = order.shape[1] if stack.graph.axes[axis].scaling == "sign" else 0
        flipped = (g.scales[axis] < 0) * size
        halves = [order + flipped, order + size - flipped] if size else [order]
        orders[axis] = torch.cat(halves, dim=1)
    renumbering = GroupElement(orders, {axis: torch.ones(order.shape) for axis, order in orders.items()})
    assert (g.scales[2] < 0).any() and (g.scales[2] > 0).any()
    assert distance(sign_cover(g.apply(stack)), renumbering.apply(sign_cover(stack))) == 0


def test_the_cover_by_hand() -> None:
    tensors = {"0.weight": [[[3.0], [-5.0]]], "0.bias": [[4.0, 12.0]], "2.weight": [[[1.0, 2.0]]], "2.bias": [[7.0]]}
    covered = sign_cover(Stack.of(_tanh().graph, {name: torch.tensor(value) for name, value in tensors.items()}))
    assert covered.weights[0].flatten().tolist() == [3, -5, -3, 5] and covered.biases[0].tolist() == [[4, 12, -4, -12]]
    assert covered.weights[1].flatten().tolist() == [0.5, 1, -0.5, -1] and covered.biases[1].tolist() == [[7]]


def test_without_sign_axes_there_is_nothing_to_cover() -> None:
    for activation in ("relu", "gelu"):
        stack = mlp(activation).stack
        assert sign_cover(stack) is stack


def test_frobenius_norms_are_one() -> None:
    stack = named("averaged").stack
    normal = frobenius_normalised(stack)
    for tensor in (*normal.weights, *normal.biases):
        if tensor is not None:
            torch.testing.assert_close(tensor.flatten(1).norm(dim=1), torch.ones(MODELS, dtype=torch.float64))
    assert normal.biases[1] is None
    assert distance(frobenius_normalised(stack.map(lambda tensor: 3 * tensor)), normal) < 1e-12
    weight, bias = mlp("relu").stack.weights[0], mlp("relu").stack.biases[0]
    scaled = frobenius_normalised(mlp("relu").stack)
    torch.testing.assert_close(scaled.weights[0][1], weight[1] / weight[1].square().sum().sqrt())
    torch.testing.assert_close(scaled.biases[0][1], bias[1] / bias[1].square().sum().sqrt())
