"""Where exactness is hard: depth beyond the range of numbers, scales far apart, networks with no way to the outputs."""

import json
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from peace.encoders.scale_gnn import ScaleGNN
from peace.encoders.sweeps import Tally, unit
from peace.graph.build import from_architecture
from peace.graph.layer_reading import read_layers
from peace.graph.stack import Stack
from peace.graph.symmetry import sample
from peace.zoo.architectures import build

MODELS = 2


def mlp(hidden: list[int], activation: str = "relu", spread: float = 1.0) -> Stack:
    text = json.dumps(
        {"name": "mlp", "input_shape": [6], "hidden": hidden, "outputs": 3, "activation": activation, "bias": True}
    )
    draw = torch.Generator().manual_seed(0)
    tensors = {
        name: spread * torch.randn(MODELS, *p.shape, generator=draw, dtype=torch.float64)
        for name, p in build(text).named_parameters()
    }
    return Stack.of(from_architecture(text), tensors)


def encoder() -> ScaleGNN:
    torch.manual_seed(0)
    return ScaleGNN(hidden_dim=16)


def distance(found: Tensor, expected: Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("spread", [1e-6, 1e6])
def test_deep_networks_stay_in_the_range_of_single_precision(spread: float) -> None:
    """Products along paths reach 1e±100 here."""
    stack, made = mlp([8] * 16, spread=spread), encoder()
    moved = sample(stack.graph, MODELS, torch.Generator().manual_seed(1), log_scale=2.0).apply(stack)
    single = stack.to(torch.float32).map(lambda tensor: tensor.requires_grad_())
    found = made(single)
    found.square().sum().backward()
    assert found.isfinite().all()
    reached = [tensor.grad for tensor in (*made.parameters(), *single.weights) if tensor.grad is not None]
    assert len(reached) > 17 and all(grad.isfinite().all() for grad in reached)
    with torch.no_grad():
        assert distance(made(moved.to(torch.float32)), found) < 1e-4
        made.double()
        assert distance(made(moved), made(stack)) < 1e-10
        assert distance(made(stack).float(), found) < 1e-4


@pytest.mark.parametrize("log_scale", [1.0, 6.0])
@torch.no_grad()
def test_scales_of_any_size_pass(log_scale: float) -> None:
    stack, made = mlp([5, 4]), encoder().double()
    element = sample(stack.graph, MODELS, torch.Generator().manual_seed(1), log_scale)
    assert max(scale.max() / scale.min() for scale in element.scales.values()) > 10**log_scale
    assert distance(made(element.apply(stack)), made(stack)) < 1e-10


@torch.no_grad()
def test_a_neuron_with_a_relu_differs_from_its_negative_and_one_with_a_tanh_does_not() -> None:
    found = {}
    for activation in ("relu", "tanh"):
        stack, made = mlp([5], activation), encoder().double()
        signs = torch.tensor([1.0, -1.0, 1.0, -1.0, 1.0], dtype=torch.float64)
        (first, second), (bias, last) = stack.weights, stack.biases
        flipped = replace(
            stack, weights=(first * signs[:, None, None], second * signs[:, None]), biases=(bias * signs, last)
        )
        found[activation] = distance(made(flipped), made(stack))
    assert found["relu"] > 1e-3 and found["tanh"] < 1e-12


@torch.no_grad()
def test_layers_of_unknown_wiring_are_seen() -> None:
    """No axis is an output's: what a layer writes begins with ones."""
    draw, made = torch.Generator().manual_seed(0), encoder()
    tensors = {"a.weight": torch.randn(2, 5, 4, generator=draw), "a.bias": torch.randn(2, 5, generator=draw),
               "b.weight": torch.randn(2, 3, 2, 3, 3, generator=draw)}  # fmt: skip
    reading = read_layers({name: tensor[0] for name, tensor in tensors.items()})
    first, second = made(reading.stack(tensors))
    assert (first - second).norm(dim=1).min() > 1e-2 * first.norm(dim=1).max()


@torch.no_grad()
def test_a_tally_by_hand() -> None:
    stack = mlp([1])
    tally, state = Tally(stack, 1), torch.tensor([[[2.0]], [[0.0]]], dtype=torch.float64)
    tally.add(1, state)
    tally.add(1, 3 * state + 1, torch.tensor([0.0, 2.0]))
    expected = torch.tensor([(2 + 7) / 2**0.5, 2.718281828**2 / 2**0.5], dtype=torch.float64)
    assert tally.states[1].flatten().tolist() == [1, 1]
    torch.testing.assert_close(tally.logs[1].exp(), expected)
    scaled, log = unit(torch.tensor([[[3e-30, -4e-30]], [[0.0, 0.0]]]))
    torch.testing.assert_close(scaled, torch.tensor([[[3.0, -4.0]], [[0.0, 0.0]]]) / 12.5**0.5)
    torch.testing.assert_close(log, torch.tensor([12.5**0.5 * 1e-30, 1.0], dtype=torch.float64).log().float())


def test_gradients_are_those_of_the_whole_computation() -> None:
    """What states are divided by is a constant to autograd, which finite differences do not know."""
    stack, made = mlp([2]).select(slice(0, 1)), encoder().double()
    probe = torch.randn(2, made.output_dim, generator=torch.Generator().manual_seed(2), dtype=torch.float64)

    def probed(*weights: Tensor) -> Tensor:
        return (made(replace(stack, weights=weights)) * probe).sum()

    assert torch.autograd.gradcheck(probed, tuple(w.clone().requires_grad_() for w in stack.weights), eps=1e-7)
