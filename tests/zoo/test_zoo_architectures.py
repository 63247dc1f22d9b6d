"""Architectures: published sizes, plain modules from a manifest's JSON, and readable names."""

import json

import pytest
import torch
from torch import nn

from peace.errors import InputError
from peace.zoo.architectures import ARCHITECTURES, build, short_name

GREY = {"activation": "tanh", "input_shape": [1, 28, 28], "outputs": 10}


def size(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


def test_the_default_cnn_is_the_published_one() -> None:
    """Schürholt et al. 2021, table 11: 208 + 1,206 + 100 parameters in convolutions, 740 + 210 in linear layers.

    The table gives 200 for the last layer, 20 × 10 without its biases, but 2,464 in all, which counts them.
    """
    module = build(GREY | {"name": "cnn"})
    assert [size(layer) for layer in module if size(layer)] == [208, 1206, 100, 740, 210]
    assert size(module) == 2464
    assert module(torch.zeros(3, 1, 28, 28)).shape == (3, 10)
    kinds = [type(layer).__name__ for layer in module]
    pooled = ["Conv2d", "MaxPool2d", "Tanh"]
    assert kinds == [*pooled, *pooled, "Conv2d", "Tanh", "Flatten", "Linear", "Tanh", "Linear"]


def test_strides_and_an_average_make_the_network_of_the_small_cnn_zoo() -> None:
    """Unterthiner et al. 2020: 160 + 2,320 + 2,320 parameters in convolutions, 170 in the linear layer."""
    shape = {"channels": [16] * 3, "kernels": [3] * 3, "strides": [2] * 3, "pools": [1] * 3, "hidden": []}
    config = GREY | {"name": "cnn", "pooling": "average", "dropout": True} | shape
    module = build(config)
    assert [size(layer) for layer in module if size(layer)] == [160, 2320, 2320, 170]
    convolution = ["Conv2d", "Tanh", "Dropout"]
    assert [type(layer).__name__ for layer in module] == [*convolution * 3, "AvgPool2d", "Flatten", "Linear"]
    images = torch.rand(3, 1, 28, 28)
    last = module[:9].eval()(images)
    assert last.shape == (3, 16, 2, 2)
    assert torch.allclose(module.eval()(images), module[-1](last.mean((2, 3))))
    assert short_name(config) == "cnn-16-16-16-10-tanh"


def test_the_tetris_network_has_a_hundred_weights() -> None:
    config = {"name": "mlp", "hidden": [5], "bias": False, "activation": "tanh", "input_shape": [1, 4, 4], "outputs": 4}
    module = build(json.dumps(config))
    assert size(module) == 16 * 5 + 5 * 4
    assert short_name(config) == "mlp-5-4-tanh-nobias"


def test_dropout_follows_every_hidden_linear_layer() -> None:
    config = {
        "name": "mlp",
        "hidden": [4, 3],
        "activation": "relu",
        "input_shape": [2, 3],
        "outputs": 2,
        "dropout": True,
    }
    kinds = [type(layer).__name__ for layer in build(config)]
    assert kinds == ["Flatten", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"]


def test_convolutions_without_pools_and_hidden_layers() -> None:
    config = GREY | {"name": "cnn", "channels": [3, 2], "kernels": [5, 3], "pools": [1, 3], "hidden": []}
    module = build(config)
    assert [type(layer).__name__ for layer in module] == [
        "Conv2d",
        "Tanh",
        "Conv2d",
        "MaxPool2d",
        "Tanh",
        "Flatten",
        "Linear",
    ]
    assert module[-1].in_features == 2 * 7 * 7
    assert short_name(config) == "cnn-3-2-10-tanh"


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"activation": "rleu"}, "unknown activation 'rleu'; did you mean 'relu'"),
        ({"channels": [3]}, "one kernel, one pool and one stride, of at least 1, per convolution"),
        ({"strides": [2, 2]}, "one kernel, one pool and one stride"),
        ({"pooling": "mean"}, "wrong type in architecture 'cnn', key 'pooling'"),
        ({"kernels": [15, 15, 2]}, "leaves nothing of the image"),
        ({"chanels": [3]}, "unknown key 'chanels' in architecture 'cnn'; did you mean 'channels'"),
        ({"name": "cmm"}, "unknown architecture 'cmm'; choose from cnn, mlp"),
        ({"outputs": "many"}, "wrong type in architecture 'cnn', key 'outputs'"),
    ],
)
def test_a_senseless_architecture_is_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        build(GREY | {"name": "cnn"} | change)


def test_every_architecture_is_a_plain_sequential() -> None:
    for name in ARCHITECTURES.names():
        assert type(build(GREY | {"name": name})) is nn.Sequential
