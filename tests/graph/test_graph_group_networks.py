"""Real networks: the derived group keeps their functions, reaches nearly all channels, needs each tensor it moves."""

import pytest
import torch
from symmetry_coverage import (
    NETWORKS,
    SMALL,
    Network,
    coverage_of,
    floating,
    from_timm,
    randomised,
    relative_change,
    some,
)  # fmt: skip
from torch import Tensor, nn

from peace.graph.derive import derive
from peace.graph.group import SymmetryGroup

REDUCED = {
    "resnet18": from_timm("resnet18", "convolution", 32, channels=(16, 24, 32, 40)),
    "mobilenetv3": from_timm("mobilenetv3_small_050", "convolution", 64),
    "convnext": from_timm("convnext_atto", "convolution", 64, depths=(1, 1, 1, 1), dims=(16, 24, 32, 40)),
    "vit": from_timm("vit_tiny_patch16_224", "transformer", 32, img_size=32, depth=2),
    "swin": from_timm("swin_tiny_patch4_window7_224", "transformer", 56, img_size=56, depths=(2, 1), num_heads=(3, 6),
                      embed_dim=48),
}  # fmt: skip
QUICK = {**SMALL, **REDUCED}


def drawn(network: Network) -> tuple[nn.Module, tuple[Tensor], SymmetryGroup, torch.Generator]:
    generator = torch.Generator().manual_seed(0)
    module = randomised(network.build(), generator)
    inputs = (network.example(generator, torch.float64, 2),)
    return module, inputs, derive(module, *inputs), generator


def check(network: Network) -> None:
    module, inputs, group, generator = drawn(network)
    own = floating(module)
    for _ in range(5):
        element = group.sample(generator)
        moved = element.apply(own)
        assert group.moved(element) > 0.95
        assert relative_change(module, inputs, moved) < 1e-9
    found = coverage_of(network, module, group)
    assert found["written_permutable"] >= 0.95 and found["channels_permutable"] >= 0.95
    assert found.get("blocks_permutable", 1.0) >= 0.95


@pytest.mark.parametrize("name", some(QUICK))
@pytest.mark.filterwarnings("ignore")
def test_small_networks_keep_their_function(name: str) -> None:
    check(QUICK[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.filterwarnings("ignore")
def test_real_networks_keep_their_function(name: str) -> None:
    check(NETWORKS[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", some(name for name in QUICK if name != "mobilenetv3"))
@pytest.mark.filterwarnings("ignore")
def test_an_element_with_one_tensor_left_out_changes_the_function(name: str) -> None:
    module, inputs, group, generator = drawn(QUICK[name])
    own = floating(module)
    moved = group.sample(generator).apply(own)
    touched = {group.names[name] for name in own if not torch.equal(moved[name], own[name])}
    assert len(touched) > 0.8 * len(set(group.names.values()))
    for known in touched:
        left_out = {name: own[name] for name in own if group.names[name] == known}
        assert relative_change(module, inputs, {**moved, **left_out}) > 1e-4, known


@pytest.mark.parametrize("name", ["vit", "swin", "encoder_norm_first", "decoder"])
@pytest.mark.filterwarnings("ignore")
def test_heads_permute_as_wholes_and_take_any_invertible_map(name: str) -> None:
    _, _, group, _ = drawn(QUICK[name])
    heads = [axis for axis in group.axes if axis.copies > 1]
    attentions = {"vit": 2, "swin": 3, "encoder_norm_first": 2, "decoder": 3}[name]
    assert len(heads) == 2 * attentions and all(axis.general and axis.permutable for axis in heads)
    blocks = [group.nodes.orbits[general.orbit].parent for general in group.generals]
    assert len(blocks) == 2 * attentions and None not in blocks
    assert all(group.nodes.orbits[block].members.size > 1 for block in set(blocks))


@pytest.mark.parametrize("name", some(["resnet18", "vit", "lstm", "decoder"]))
@pytest.mark.filterwarnings("ignore")
def test_a_module_without_memory_has_the_same_group(name: str) -> None:
    network = QUICK[name]
    module, inputs, group, _ = drawn(network)
    with torch.device("meta"):
        empty = network.build()
    assert all(tensor.is_meta for tensor in empty.parameters())
    other = derive(empty.double(), *inputs)
    assert other.axes == group.axes and other.log10_order == group.log10_order and other.shapes == group.shapes
    assert {name: tuple(tensor.shape) for name, tensor in floating(module).items()} == other.tensors
