"""Elements obey the laws of a group, many act as one does, types and other entries stay, bad input is told."""

from collections.abc import Mapping

import pytest
import torch
from symmetry_coverage import SMALL, floating, from_timm, randomised, some
from torch import Tensor, nn

from peace.errors import InputError
from peace.graph.derive import derive
from peace.graph.group import SymmetryGroup

NETWORKS = {
    **SMALL,
    "convnext": from_timm("convnext_atto", "convolution", 64, depths=(1, 1, 1, 1), dims=(16, 24, 32, 40)),
    "resnet": from_timm("resnet18", "convolution", 32, channels=(16, 24, 32, 40)),
    "vit": from_timm("vit_tiny_patch16_224", "transformer", 32, img_size=32, depth=1),
}


def drawn(name: str) -> tuple[nn.Module, SymmetryGroup, dict[str, Tensor], torch.Generator]:
    generator = torch.Generator().manual_seed(1)
    module = randomised(NETWORKS[name].build(), generator)
    return module, derive(module, NETWORKS[name].example(generator, torch.float64)), floating(module), generator


def furthest(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> float:
    """The largest difference of two state dicts, in units of each tensor's largest entry."""
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max() / (1 + first[name].abs().max())) for name in first)


@pytest.mark.parametrize("name", some(NETWORKS))
@pytest.mark.parametrize("general", [True, False])
@pytest.mark.filterwarnings("ignore")
def test_composition_and_inverse(name: str, general: bool) -> None:
    _, group, own, generator = drawn(name)
    first, second = (group.sample(generator, general=general) for _ in range(2))
    one_by_one = second.apply(first.apply(own))
    assert furthest(second.compose(first).apply(own), one_by_one) < 1e-10
    assert furthest(first.compose(second).apply(own), one_by_one) > 1e-2
    assert furthest(first.inverse().apply(first.apply(own)), own) < 1e-10
    assert furthest(first.apply(first.inverse().apply(own)), own) < 1e-10
    backwards = second.inverse().compose(first.inverse())
    assert furthest(first.compose(second).inverse().apply(own), backwards.apply(own)) < 1e-9
    assert furthest(first.compose(first.inverse()).apply(own), own) < 1e-10


@pytest.mark.parametrize("name", some(NETWORKS))
@pytest.mark.filterwarnings("ignore")
def test_many_elements_act_as_each_alone(name: str) -> None:
    _, group, own, generator = drawn(name)
    elements = group.sample(generator, elements=3)
    together = elements.apply(own)
    models = {key: torch.stack([tensor, tensor + 1, tensor * 2]) for key, tensor in own.items()}
    apart = elements.apply(models)
    for place in range(3):
        alone = elements[place].apply(own)
        assert furthest({key: tensor[place] for key, tensor in together.items()}, alone) < 1e-12
        other = elements[place].apply({key: tensor[place] for key, tensor in models.items()})
        assert furthest({key: tensor[place] for key, tensor in apart.items()}, other) < 1e-12
    assert furthest(elements[0].apply(own), elements[1].apply(own)) > 1e-2
    composed = {key: tensor[1] for key, tensor in elements.compose(elements).apply(own).items()}
    assert furthest(composed, elements[1].compose(elements[1]).apply(own)) < 1e-10
    back = elements.inverse().apply(together)
    assert all(furthest({key: tensor[place] for key, tensor in back.items()}, own) < 1e-10 for place in range(3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
@pytest.mark.parametrize("name", ["lstm", "vit", "unet"])
@pytest.mark.filterwarnings("ignore")
def test_types_stay(name: str, dtype: torch.dtype) -> None:
    _, group, own, generator = drawn(name)
    rounded = {key: tensor.to(dtype) for key, tensor in own.items()}
    element = group.sample(generator)
    moved = element.apply(rounded)
    assert {tensor.dtype for tensor in moved.values()} == {dtype}
    exact = element.apply({key: tensor.double() for key, tensor in rounded.items()})
    assert furthest({key: tensor.double() for key, tensor in moved.items()}, exact) < 8 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_renumbering_is_exact_in_every_type(dtype: torch.dtype) -> None:
    module = nn.Sequential(nn.Linear(4, 9), nn.Sigmoid(), nn.Linear(9, 9), nn.Sigmoid(), nn.Linear(9, 3))
    group, own = derive(module, torch.zeros(1, 4)), {k: t.to(dtype) for k, t in floating(module).items()}
    # Biases tell the neurons apart; drawn ones could be equal once rounded.
    own |= {name: torch.arange(9, dtype=dtype) for name in ("0.bias", "2.bias")}
    element = group.sample(torch.Generator().manual_seed(0))
    moved = element.apply(own)
    # Rows of a layer and columns of the next in one order.
    order = [int((own["0.bias"] == value).nonzero()) for value in moved["0.bias"]]
    assert order != list(range(9)) and sorted(order) == list(range(9))
    assert torch.equal(moved["0.weight"], own["0.weight"][order])
    after = [int((own["2.bias"] == value).nonzero()) for value in moved["2.bias"]]
    assert torch.equal(moved["2.weight"], own["2.weight"][after][:, order])
    assert torch.equal(moved["4.weight"], own["4.weight"][:, after]) and torch.equal(moved["4.bias"], own["4.bias"])
    assert all(torch.equal(element.inverse().apply(moved)[name], tensor) for name, tensor in own.items())


def test_scales_of_a_rectified_layer_are_undone_by_the_next() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)).double()
    group, own = derive(module, torch.zeros(1, 3, dtype=torch.float64)), floating(module)
    moved = group.sample(torch.Generator().manual_seed(0), log_scale=1.0).apply(own)
    norms = moved["0.weight"].norm(dim=1) * moved["2.weight"].norm(dim=0)
    before = own["0.weight"].norm(dim=1) * own["2.weight"].norm(dim=0)
    torch.testing.assert_close(norms.sort().values, before.sort().values, rtol=1e-12, atol=0)
    ratio = moved["0.weight"].norm(dim=1).sort().values / own["0.weight"].norm(dim=1).sort().values
    assert (ratio - 1).abs().max() > 0.1
    assert torch.equal(moved["2.bias"], own["2.bias"])


def test_a_chance_that_is_the_same_gives_the_same_element() -> None:
    _, group, own, _ = drawn("unet")
    first, second, third = (group.sample(torch.Generator().manual_seed(seed)).apply(own) for seed in (3, 3, 4))
    assert furthest(first, second) == 0 and furthest(first, third) > 1e-2


def test_tied_tensors_stay_tied() -> None:
    _, group, own, generator = drawn("decoder")
    moved = group.sample(generator).apply(own)
    assert torch.equal(moved["token.weight"], moved["head.weight"])
    assert not torch.equal(moved["token.weight"], own["token.weight"])


def test_other_entries_are_handed_through() -> None:
    module, group, _, generator = drawn("unet")
    state = {**module.state_dict(), "a note": torch.tensor([7])}
    moved = group.sample(generator).apply(state)
    assert list(moved) == list(state) and moved["a note"] is state["a note"]
    assert moved["bottom.1.num_batches_tracked"] is state["bottom.1.num_batches_tracked"]
    assert "a note" not in group.tensors and "bottom.1.running_mean" in group.tensors


def test_a_module_is_left_as_it_was() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Dropout(), nn.ReLU(), nn.Linear(5, 2)).train()
    module[2].eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    parameters = list(module.parameters())
    derive(module, torch.randn(2, 3))
    assert all(torch.equal(before[name], tensor) for name, tensor in module.state_dict().items())
    assert [part.training for part in module.modules()] == [True, True, True, False, True, True]
    assert all(a is b and a.requires_grad for a, b in zip(parameters, module.parameters(), strict=True))
    assert not module[0]._forward_hooks and not module[0]._forward_pre_hooks
    module(torch.randn(4, 3)).sum().backward()


class DataDependent(nn.Module):
    """Takes a branch by a number that it computed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(3, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(h.relu() if h.sum() > 0 else h.tanh())


@pytest.mark.parametrize(
    ("module", "example"),
    [
        (nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)), torch.zeros(1, 4)),
        (nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.Linear(5, 2)), torch.zeros(1, 3, 9, 9)),
        (nn.Embedding(4, 5), torch.zeros(1, 4)),
        (DataDependent(), torch.zeros(1, 3)),
        (nn.Bilinear(3, 3, 2), torch.zeros(1, 3)),
    ],
    ids=["width", "image", "words", "branch", "inputs"],
)
def test_a_module_that_cannot_be_run_is_told_in_one_sentence(module: nn.Module, example: Tensor) -> None:
    with pytest.raises(InputError) as raised:
        derive(module, example)
    message = str(raised.value)
    assert type(module).__name__ in message and str(tuple(example.shape)) in message and "\n" not in message


def test_tensors_that_do_not_fit_are_told() -> None:
    module = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
    group = derive(module, torch.zeros(1, 3))
    element, state = group.sample(torch.Generator().manual_seed(0)), module.state_dict()
    with pytest.raises(InputError, match=r"2\.weight"):
        element.apply({name: tensor for name, tensor in state.items() if name != "2.weight"})
    with pytest.raises(InputError, match=r"0\.weight.*\(5, 4\).*\(5, 3\)"):
        element.apply({**state, "0.weight": torch.zeros(5, 4)})
