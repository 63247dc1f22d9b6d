import dataclasses

import pytest
import torch
from symmetry_cases import Case
from symmetry_coverage import floating, randomised, relative_change
from test_graph_group_cases import EACH
from torch import Tensor, nn

from peace.graph.derive import derive
from peace.graph.element import Element
from peace.graph.group import SymmetryGroup


def distance(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    return max(
        ((first[name] - second[name]).abs().max() / first[name].abs().max().clamp_min(1e-12)).item() for name in first
    )


def moves(group: SymmetryGroup, generator: torch.Generator) -> tuple[Element, Element]:
    """A random element's scales alone, and its renumbering alone."""
    element = group.sample(generator, log_scale=1.0, general=False)
    still = torch.arange(len(element.order))
    return dataclasses.replace(element, order=still), dataclasses.replace(element, scale=torch.ones_like(element.scale))


@pytest.mark.parametrize("case", EACH)
@pytest.mark.filterwarnings("ignore")
def test_all_of_an_orbit_has_one_canonical_form_of_the_same_function(case: Case) -> None:
    generator = torch.Generator().manual_seed(1)
    module, inputs = randomised(case.build(), generator), case.inputs(generator)
    group = derive(module, *inputs)
    own = floating(module)
    form = group.canonical_form(own)
    assert relative_change(module, inputs, form) < 1e-9
    assert distance(group.canonical_form(form), form) < 1e-9
    for _ in range(3):
        rescaled, renumbered = moves(group, generator)
        assert distance(group.canonical_form(rescaled.apply(own)), form) < 1e-9
        assert distance(group.canonical_form(renumbered.apply(own)), renumbered.apply(form)) < 1e-9


def chain(activation: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(2, 2), activation, nn.Linear(2, 1)).double()


def test_rows_with_their_biases_get_norm_1_and_their_readers_what_is_divided_out() -> None:
    module = chain(nn.ReLU())
    tensors = {
        "0.weight": torch.tensor([[2.0, 0.0], [0.0, 3.0]]),
        "0.bias": torch.tensor([0.0, 4.0]),
        "2.weight": torch.tensor([[1.0, 1.0]]),
        "2.bias": torch.tensor([7.0]),
    }
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    form = derive(module, torch.zeros(1, 2).double()).canonical_form(tensors)
    assert torch.allclose(form["0.weight"], torch.tensor([[1.0, 0.0], [0.0, 0.6]]).double())
    assert torch.allclose(form["0.bias"], torch.tensor([0.0, 0.8]).double())
    assert torch.allclose(form["2.weight"], torch.tensor([[2.0, 5.0]]).double())
    assert torch.equal(form["2.bias"], tensors["2.bias"])


def test_a_sign_makes_the_sum_of_cubes_positive() -> None:
    module = chain(nn.Tanh())
    tensors = {
        "0.weight": torch.tensor([[-2.0, 1.0], [1.0, 1.0]]),
        "0.bias": torch.tensor([1.0, -1.0]),
        "2.weight": torch.tensor([[1.0, 1.0]]),
        "2.bias": torch.tensor([7.0]),
    }
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    form = derive(module, torch.zeros(1, 2).double()).canonical_form(tensors)
    assert form["0.weight"].tolist() == [[2.0, -1.0], [1.0, 1.0]]
    assert form["0.bias"].tolist() == [-1.0, -1.0]
    assert form["2.weight"].tolist() == [[-1.0, 1.0]]


def output(module: nn.Module, tensors: dict[str, Tensor], x: Tensor) -> Tensor:
    return torch.func.functional_call(module, tensors, (x,))


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.Tanh()])
def test_what_reads_a_dead_neuron_becomes_zero(activation: nn.Module) -> None:
    module, x = chain(activation), torch.randn(4, 2).double()
    own = floating(module)
    own["0.weight"][0], own["0.bias"][0] = 0.0, 0.0
    form = derive(module, x).canonical_form(own)
    assert form["2.weight"][0, 0] == 0
    assert form["2.weight"][0, 1] != 0
    assert torch.allclose(output(module, form, x), output(module, own, x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("off", ["0.weight", "1.weight", "1.bias"])
def test_a_normalised_channel_that_is_partly_off_keeps_its_function(off: str) -> None:
    module = nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.ReLU(), nn.Conv2d(2, 1, 1)).double().eval()
    x = torch.randn(3, 1, 4, 4).double()
    own = floating(module)
    own["1.running_mean"] = torch.tensor([-0.5, 0.25]).double()
    own[off] = torch.zeros_like(own[off])
    form = derive(module, x).canonical_form(own)
    before = output(module, own, x)
    assert (output(module, form, x) - before).abs().max() < 1e-12
    assert before.abs().max() > 0
