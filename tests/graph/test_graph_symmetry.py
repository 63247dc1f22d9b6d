from dataclasses import replace

import pytest
import torch
from graph_networks import MODELS, NETWORKS, Network, distance, mlp, named
from torch import Tensor

from peace.graph.stack import Stack
from peace.graph.symmetry import GroupElement, sample


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def elements(network: Network) -> list[GroupElement]:
    """Five random elements, none of which leaves any model's weights as they are."""
    drawn = [sample(network.stack.graph, MODELS, generator(seed)) for seed in range(5)]
    for element in drawn:
        assert all(
            distance(element.apply(network.stack).select([i]), network.stack.select([i])) > 0.1 for i in range(3)
        )
    return drawn


def identity(network: Network) -> GroupElement:
    sizes = {axis: network.stack.graph.axes[axis].size for axis in network.stack.graph.hidden}
    ones = {axis: torch.ones(MODELS, size, dtype=torch.float64) for axis, size in sizes.items()}
    return GroupElement({axis: torch.arange(size).expand(MODELS, -1) for axis, size in sizes.items()}, ones)


def relative_change(network: Network, stack: Stack) -> float:
    before = network.outputs(network.stack)
    return ((network.outputs(stack) - before).abs().max() / before.abs().max()).item()


@pytest.mark.parametrize("name", NETWORKS)
def test_the_function_does_not_change(name: str) -> None:
    network = named(name)
    for element in elements(network):
        assert relative_change(network, element.apply(network.stack)) < 1e-12


def test_what_the_networks_allow_is_really_drawn() -> None:
    scalings = {name: [axis.scaling for axis in named(name).stack.graph.axes[1:-1]] for name in NETWORKS}
    assert scalings["mlp-relu-bias"] == ["positive", "positive"]
    assert scalings["mlp-tanh-bias"] == ["sign", "sign"]
    assert scalings["mlp-gelu-bias"] == ["none", "none"]
    assert scalings["cnn-tanh-nobias"] == ["none", "sign", "sign"]
    assert scalings["cnn-tanh-unpooled"] == ["sign", "sign", "sign"]
    assert scalings["averaged"] == ["sign", "positive", "sign"]
    assert scalings["globally-averaged-relu"] == ["positive", "positive"]
    assert scalings["globally-averaged-tanh"] == ["sign", "sign"]
    element = sample(named("averaged").stack.graph, MODELS, generator(0))
    assert element.scales[1].unique().tolist() == [-1, 1] == element.scales[3].unique().tolist()
    assert (element.scales[2] > 0).all() and len(element.scales[2].unique()) == 3 * 5
    assert element.orders.keys() == element.scales.keys() == {1, 2, 3}


@pytest.mark.parametrize(("name", "scale"), [("mlp-tanh-bias", 2.0), ("mlp-gelu-bias", 2.0), ("mlp-gelu-bias", -1.0),
                                             ("mlp-relu-bias", -1.0), ("cnn-tanh-nobias", -1.0)])  # fmt: skip
def test_control_a_scale_that_the_activation_does_not_allow_changes_the_function(name: str, scale: float) -> None:
    network = named(name)
    wrong = identity(network)
    wrong = GroupElement(wrong.orders, {**wrong.scales, 1: wrong.scales[1] * scale})
    assert relative_change(network, wrong.apply(network.stack)) > 0.01


def test_control_permuting_one_tensor_alone_changes_the_function() -> None:
    network = mlp("relu")
    order = torch.tensor([1, 0, 2, 3, 4, 5])
    for side, dim in ((0, 1), (1, 2)):
        weights = list(network.stack.weights)
        weights[side] = weights[side].index_select(dim, order)
        assert relative_change(network, replace(network.stack, weights=tuple(weights))) > 0.01


def test_one_element_by_hand() -> None:
    network = mlp("relu", hidden=(3,))
    element = GroupElement({1: torch.tensor([[2, 0, 1]])}, {1: torch.tensor([[10.0, 100.0, 1000.0]])})
    one = network.stack.select([0])
    moved = element.apply(one)
    (w, v), (b, c) = one.weights, one.biases
    assert torch.equal(moved.weights[0][0, 0], w[0, 2] * 10)
    assert torch.equal(moved.weights[0][0, 1], w[0, 0] * 100)
    assert torch.equal(moved.biases[0][0], torch.stack([b[0, 2] * 10, b[0, 0] * 100, b[0, 1] * 1000]))
    assert torch.equal(moved.weights[1][0, :, 2], v[0, :, 1] / 1000)
    assert torch.equal(moved.biases[1], c)


@pytest.mark.parametrize("name", ["mlp-relu-bias", "averaged"])
def test_composition_and_inverse(name: str) -> None:
    network = named(name)
    stack = network.stack
    g, h, k, *_ = elements(network)
    assert distance(g.compose(h).apply(stack), g.apply(h.apply(stack))) < 1e-12
    assert distance(g.compose(h).compose(k).apply(stack), g.compose(h.compose(k)).apply(stack)) < 1e-12
    assert distance(g.compose(h).apply(stack), h.compose(g).apply(stack)) > 0.1
    for unit in (g.compose(g.inverse()), g.inverse().compose(g)):
        for axis, order in unit.orders.items():
            assert torch.equal(order, torch.arange(order.shape[1]).expand_as(order))
            torch.testing.assert_close(unit.scales[axis], torch.ones_like(unit.scales[axis]), rtol=1e-14, atol=0)
    assert distance(g.inverse().apply(g.apply(stack)), stack) < 1e-12


@pytest.mark.parametrize("name", ["mlp-relu-bias", "cnn-tanh-nobias"])
def test_the_identity_changes_nothing(name: str) -> None:
    network = named(name)
    moved = identity(network).apply(network.stack)
    assert distance(moved, network.stack) == 0
    assert [bias is None for bias in moved.biases] == [bias is None for bias in network.stack.biases]


def test_float32() -> None:
    network = named("cnn-relu-bias")
    moved = elements(network)[0].apply(network.stack.to(torch.float32))
    assert all(tensor.dtype == torch.float32 for tensor in (*moved.weights, *moved.biases))
    assert relative_change(network, moved.to(torch.float64)) < 1e-5


def test_each_model_is_moved_by_its_own_element() -> None:
    network = named("averaged")
    element = elements(network)[0]
    moved = element.apply(network.stack)
    for place in range(MODELS):
        own = GroupElement(_row(element.orders, place), _row(element.scales, place))
        assert distance(own.apply(network.stack.select([place])), moved.select([place])) == 0
    assert not torch.equal(element.orders[1][0], element.orders[1][1])


def _row(by_axis: dict[int, Tensor], place: int) -> dict[int, Tensor]:
    return {axis: values[[place]] for axis, values in by_axis.items()}


def test_elements_are_uniform_or_lognormal() -> None:
    graph = mlp("relu", hidden=(3,)).stack.graph
    element = sample(graph, 6000, generator(0), log_scale=0.5)
    _, counts = element.orders[1].unique(dim=0, return_counts=True)
    # Six orders, 1,000 each expected; the standard deviation of one count is 29.
    assert len(counts) == 6 and (counts - 1000).abs().max() < 120
    logarithms = element.scales[1].log()
    assert logarithms.mean().item() == pytest.approx(0, abs=0.02)
    assert logarithms.std().item() == pytest.approx(0.5, abs=0.02)
    signs = sample(mlp("tanh", hidden=(3,)).stack.graph, 6000, generator(0)).scales[1]
    assert signs.mean().item() == pytest.approx(0, abs=0.03) and (signs.abs() == 1).all()


def test_an_axis_that_may_not_be_permuted_stays() -> None:
    graph = mlp("relu").stack.graph
    fixed = replace(graph, axes=(*graph.axes[:1], replace(graph.axes[1], permutable=False), *graph.axes[2:]))
    element = sample(fixed, 4, generator(0))
    assert torch.equal(element.orders[1], torch.arange(6).expand(4, -1))
    assert not torch.equal(element.orders[2], torch.arange(5).expand(4, -1))


def test_an_element_is_a_function_of_the_generator() -> None:
    graph = named("averaged").stack.graph
    first, again, other = (sample(graph, 3, generator(seed)) for seed in (4, 4, 5))
    assert all(torch.equal(first.orders[axis], again.orders[axis]) for axis in graph.hidden)
    assert all(torch.equal(first.scales[axis], again.scales[axis]) for axis in graph.hidden)
    assert not torch.equal(first.scales[2], other.scales[2])
