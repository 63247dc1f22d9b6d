"""Symmetries as text: each line from values by hand."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from peace.graph.families.fitting import Fit
from peace.graph.families.route import Rebuilt, Route, rebuild
from peace.graph.layer_reading import read_layers
from peace.reporting import symmetries
from peace.zoo.checkpoint import Checkpoint


@dataclass(frozen=True)
class Axis:
    name: str
    size: int
    copies: int
    role: str
    permutable: bool
    scaling: str
    general: bool
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Pin:
    operation: str
    module: str
    channels: int


@dataclass(frozen=True)
class Group:
    """What is printed of a group, with numbers that no network has."""

    axes: tuple[Axis, ...]
    pinned: tuple[Pin, ...] = ()
    log10_order: float = 12.345
    hidden_channels: int = 8
    permutable_channels: int = 6

    def sample(self, generator: torch.Generator) -> int:
        return generator.initial_seed()

    def moved(self, element: int) -> float:
        assert element == 0, "the same element each time"
        return 0.5


AXES = (
    Axis("fc1", 4, 1, "hidden", True, "nonzero", False, ("fc1.weight", "fc1.bias", "fc2.weight")),
    Axis("attn", 2, 3, "hidden", True, "none", True, ("attn.qkv.weight",)),
    Axis("", 5, 1, "position", False, "none", False, ("pos_embed",)),
    Axis("tanh", 1, 1, "hidden", False, "sign", False, ()),
)


def test_a_group() -> None:
    assert symmetries.group(Group(AXES, (Pin("aten.cumsum.default", "head", 2), Pin("Custom", "", 1)))) == "\n".join([
        "axis       size   role      symmetries                         tensors",
        "fc1        4      hidden    permutation, positive scale, sign  fc1.weight, fc1.bias and 1 more",
        "attn       2 × 3  hidden    permutation, any invertible map    attn.qkv.weight",
        "pos_embed  5      position  none                               pos_embed",
        "tanh       1      hidden    sign                               –",
        "",
        "pinned: 2 channels by aten.cumsum.default in head",
        "pinned: 1 channels by Custom in the module itself",
        "hidden channels: 8, of which 6 permutable (75.0%)",
        "parameters that a random element moves: 50.0%",
        "permutations and signs: 10^12.3",
    ])  # fmt: skip


def test_every_tensor_and_operation_on_request() -> None:
    many = Group(AXES[:1], tuple(Pin("op", f"m{place}", 1) for place in range(20)))
    short, long = symmetries.group(many), symmetries.group(many, every=True)
    assert "fc1.weight, fc1.bias and 1 more" in short and "fc1.weight, fc1.bias, fc2.weight" in long
    assert short.count("pinned:") == 13 and "pinned: by 8 more operations" in short
    assert long.count("pinned:") == 20


def test_nothing_hidden_and_nothing_pinned() -> None:
    text = symmetries.group(replace(Group(AXES[2:3]), hidden_channels=0, permutable_channels=0))
    assert "pinned: nothing\nhidden channels: 0, of which 0 permutable (0.0%)" in text


def test_a_route_with_a_module() -> None:
    inputs = (torch.empty(1, 3, 8, 8), torch.empty(1, 16))
    route = Route("timm", "resnet18", "architecture in config.json", {"zoo": "no architecture_config"})
    assert symmetries.route(Rebuilt(route, torch.nn.Identity(), inputs, Fit())) == (
        "route: timm, resnet18 (architecture in config.json), traced on an input of 1×3×8×8 and 1×16\n"
        "  not zoo: no architecture_config"
    )


def test_a_layer_reading_and_its_route() -> None:
    tensors = {"conv.weight": torch.ones(4, 3, 5, 5), "conv.bias": torch.ones(4), "fc.weight": torch.ones(2, 4)}
    rebuilt = rebuild(Checkpoint(Path("m.safetensors"), (), tensors, {}))
    lines = symmetries.route(rebuilt).splitlines()
    assert lines[0] == "route: layers, each tensor by itself (no family fits)"
    assert [line.split(":")[0] for line in lines[1:]] == [
        f"  not {name}" for name in ("zoo", "timm", "transformers", "torchvision")
    ]
    assert symmetries.layers(read_layers(tensors)) == "\n".join([
        "tensor       kind  out  in  taps  bias",
        "conv.weight  conv  4    3   5×5   conv.bias",
        "fc.weight    head  2    4   –     –",
        "",
        "tensors: 1 conv, 1 bias, 1 head",
        "layouts: OIHW linear, OIHW convolution",
        "No symmetry of the function is claimed; layer-wise encoders do not see the order of any tensor's outputs or"
        " inputs.",
    ])  # fmt: skip
