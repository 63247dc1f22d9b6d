import copy
import json
from collections import OrderedDict

import pytest
import torch
from torch import nn

from peace.errors import InputError
from peace.graph.build import from_architecture, from_module
from peace.graph.weight_graph import Axis, Layer
from peace.zoo import architectures

CNN = {"name": "cnn", "input_shape": [1, 8, 8], "outputs": 3, "channels": [4, 5], "kernels": [3, 2], "pools": [2, 1],
       "hidden": [6], "activation": "relu"}  # fmt: skip


def test_a_convolutional_network() -> None:
    graph = from_module(architectures.build(CNN), (1, 8, 8))
    assert graph.axes == (
        Axis("input", (1,), "input"),
        Axis("0", (4,), "hidden", permutable=True, scaling="positive"),
        Axis("3", (5,), "hidden", permutable=True, scaling="positive"),
        Axis("6", (6,), "hidden", permutable=True, scaling="positive"),
        Axis("8", (3,), "output"),
    )
    # 8x8 less a 3x3 kernel is 6x6, pooled 3x3, less a 2x2 kernel 2x2: four taps of five channels.
    assert graph.layers == (
        Layer("0", "conv", 1, 0, (3, 3), "0.weight", "0.bias"),
        Layer("3", "conv", 2, 1, (2, 2), "3.weight", "3.bias"),
        Layer("6", "linear", 3, 2, (2, 2), "6.weight", "6.bias"),
        Layer("8", "linear", 4, 3, (), "8.weight", "8.bias"),
    )
    assert [layer.n_tap for layer in graph.layers] == [9, 4, 4, 1]
    assert graph.hidden == (1, 2, 3)
    assert [graph.writers(axis) for axis in range(5)] == [(), (0,), (1,), (2,), (3,)]
    assert [graph.readers(axis) for axis in range(5)] == [(0,), (1,), (2,), (3,), ()]


def test_a_flatten_before_the_first_layer_keeps_the_pixels_identities() -> None:
    graph = from_module(
        nn.Sequential(nn.Flatten(), nn.Linear(48, 5, bias=False), nn.Tanh(), nn.Linear(5, 2)), (3, 4, 4)
    )
    assert graph.axes[0] == Axis("input", (3, 4, 4), "input")
    assert graph.axes[0].size == 48
    assert graph.layers[0] == Layer("1", "linear", 1, 0, (), "1.weight", None)
    pooled = from_module(nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Flatten(), nn.Linear(12, 2)), (3, 4, 4))
    assert pooled.axes[0] == Axis("input", (3, 2, 2), "input")


def test_names_are_those_of_the_module() -> None:
    layers = OrderedDict(first=nn.Linear(4, 3), act=nn.ReLU(), last=nn.Linear(3, 2))
    graph = from_module(nn.Sequential(layers), (4,))
    assert [axis.name for axis in graph.axes] == ["input", "first", "last"]
    assert [(layer.weight, layer.bias) for layer in graph.layers] == [
        ("first.weight", "first.bias"),
        ("last.weight", "last.bias"),
    ]


@pytest.mark.parametrize(
    ("between", "scaling"),
    [
        ([nn.ReLU()], "positive"),
        ([nn.LeakyReLU(0.3)], "positive"),
        ([nn.Tanh()], "sign"),
        ([nn.GELU()], "none"),
        ([nn.Sigmoid()], "none"),
        ([nn.SiLU()], "none"),
        ([], "positive"),
        ([nn.Identity()], "positive"),
        ([nn.Dropout(), nn.ReLU(), nn.Dropout()], "positive"),
        ([nn.ReLU(), nn.LeakyReLU()], "positive"),
        ([nn.Tanh(), nn.Tanh()], "sign"),
        ([nn.ReLU(), nn.Tanh()], "none"),
        ([nn.Tanh(), nn.ReLU()], "none"),
        ([nn.ReLU(), nn.GELU()], "none"),
    ],
)
def test_the_activation_decides_the_scaling(between: list[nn.Module], scaling: str) -> None:
    graph = from_module(nn.Sequential(nn.Linear(4, 3), *between, nn.Linear(3, 2)), (4,))
    assert [axis.scaling for axis in graph.axes] == ["none", scaling, "none"]
    assert [axis.permutable for axis in graph.axes] == [False, True, False]


@pytest.mark.parametrize(
    ("between", "scaling"),
    [
        (["max", nn.ReLU()], "positive"),
        ([nn.ReLU(), "max"], "positive"),
        (["max", nn.LeakyReLU()], "positive"),
        (["max", nn.Tanh()], "none"),
        ([nn.Tanh(), "max"], "none"),
        (["max", nn.GELU()], "none"),
        (["max"], "positive"),
        (["average", nn.ReLU()], "positive"),
        (["average", nn.Tanh()], "sign"),
        ([nn.Tanh(), "average"], "sign"),
        (["average", nn.Tanh(), "max"], "none"),
    ],
)
@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_pooling_and_activation_decide_the_scaling(
    between: list[str | nn.Module], scaling: str, dimensions: int
) -> None:
    pools = {"max": (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d), "average": (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)}
    conv = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    layers = [pools[part][dimensions - 1](2) if isinstance(part, str) else part for part in between]
    graph = from_module(nn.Sequential(conv(2, 3, 2), *layers, conv(3, 4, 1)), (2, *[9] * dimensions))
    assert graph.axes[1] == Axis("0", (3,), "hidden", permutable=True, scaling=scaling)
    assert graph.layers[0].taps == (2,) * dimensions


def test_activations_after_the_flatten_or_the_last_layer() -> None:
    graph = from_module(
        nn.Sequential(nn.Conv2d(1, 3, 2), nn.Tanh(), nn.Flatten(), nn.ReLU(), nn.Linear(27, 2), nn.ReLU()), (1, 4, 4)
    )
    assert [axis.scaling for axis in graph.axes] == ["none", "none", "none"]
    assert graph.layers[1].taps == (3, 3)


def test_a_second_flatten_changes_nothing() -> None:
    once = [nn.Conv2d(1, 3, 2), nn.Flatten()]
    graph = from_module(nn.Sequential(*once, nn.Flatten(), nn.Linear(27, 2)), (1, 4, 4))
    assert graph.layers[1].taps == (3, 3)


def test_a_module_that_stands_in_two_places_counts_twice() -> None:
    act = nn.Tanh()
    graph = from_module(nn.Sequential(nn.Linear(4, 3), act, nn.Linear(3, 3), act, nn.Linear(3, 2)), (4,))
    assert [axis.scaling for axis in graph.axes] == ["none", "sign", "sign", "none"]
    pool = nn.MaxPool2d(2)
    graph = from_module(nn.Sequential(nn.Conv2d(1, 2, 1), pool, nn.Conv2d(2, 3, 1), pool, nn.Flatten(),
                                      nn.Linear(12, 2)), (1, 8, 8))  # fmt: skip
    assert graph.layers[2].taps == (2, 2)


def test_the_module_is_left_as_it_is() -> None:
    module = architectures.build({**CNN, "dropout": True}).train()
    before = copy.deepcopy(module.state_dict())
    from_module(module, (1, 8, 8))
    after = module.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert all(parameter.device.type == "cpu" and parameter.grad is None for parameter in module.parameters())
    assert all(part.training for part in module.modules())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_type_of_the_weights_does_not_matter(dtype: torch.dtype) -> None:
    module = architectures.build(CNN)
    assert from_module(copy.deepcopy(module).to(dtype), (1, 8, 8)) == from_module(module, (1, 8, 8))


def test_an_architecture_is_that_of_its_module() -> None:
    text = json.dumps(CNN)
    assert from_architecture(text) == from_module(architectures.build(CNN), (1, 8, 8))
    assert from_architecture(text) is from_architecture(text)


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)), (4,), "layer 1 is not understood: got BatchNorm1d"),
        (nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)), (4,), "layer 1 is not understood: got Softmax"),
        (nn.Sequential(nn.Sequential(nn.Linear(4, 3))), (4,), "layer 0 is not understood: got Sequential"),
        (nn.Sequential(nn.Linear(4, 3), nn.LSTM(3, 3)), (4,), "layer 1 is not understood: got LSTM"),
        (nn.Sequential(nn.ConvTranspose2d(1, 3, 3)), (1, 4, 4), "layer 0 is not understood: got ConvTranspose2d"),
        (nn.Sequential(nn.Conv2d(4, 4, 3, groups=2)), (4, 5, 5), "layer 0 is a grouped convolution: got groups=2"),
        (nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(4, 2)), (4,), "layer 2 does not fit"),
        (nn.Sequential(nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3)), (1, 9, 9), "layer 1 does not fit"),
        (nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten(), nn.Linear(11, 3)), (1, 4, 4), "layer 2 does not fit"),
        (nn.Sequential(nn.Conv2d(1, 3, 9)), (1, 4, 4), "layer 0 does not fit"),
        (nn.Sequential(nn.Flatten(7), nn.Linear(4, 3)), (4,), "layer 0 does not fit"),
        # What torch itself lets pass: a linear layer over columns, an image without channels, pooling over neurons.
        (nn.Sequential(nn.Linear(4, 3)), (5, 4), r"layer 0 does not fit .*got an input of shape \(5, 4\)"),
        (nn.Sequential(nn.Linear(4, 3)), (1, 4), r"layer 0 does not fit .*got an input of shape \(1, 4\)"),
        (nn.Sequential(nn.Conv2d(1, 4, 3)), (6, 6), "layer 0 does not fit"),
        (nn.Sequential(nn.Flatten(), nn.MaxPool1d(2), nn.Linear(8, 3)), (1, 4, 4), "layer 2 does not fit"),
        (nn.Sequential(nn.ReLU()), (4,), "the module has no weights"),
        (nn.Sequential(), (4,), "the module has no weights"),
    ],
)
def test_what_is_not_understood_is_refused(module: nn.Sequential, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        from_module(module, shape)
    assert "\n" not in str(caught.value)


def test_shared_weights_are_refused() -> None:
    layer, tied = nn.Linear(4, 4), nn.Linear(4, 4)
    with pytest.raises(InputError, match="share weights"):
        from_module(nn.Sequential(layer, nn.ReLU(), layer), (4,))
    tied.weight = layer.weight
    with pytest.raises(InputError, match="share weights"):
        from_module(nn.Sequential(layer, nn.ReLU(), tied), (4,))
