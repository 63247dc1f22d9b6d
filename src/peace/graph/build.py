"""Weight graphs of feed-forward modules: linear, convolution, pooling, flatten, dropout and activations in a row."""

import copy
import json
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache

import torch
from torch import Tensor, nn

from peace.errors import InputError
from peace.graph.weight_graph import Axis, Layer, Scaling, WeightGraph
from peace.zoo import architectures

_HOMOGENEOUS = (nn.ReLU, nn.LeakyReLU)
_ODD = (nn.Tanh,)
_OTHER_ELEMENTWISE = (nn.Sigmoid, nn.GELU, nn.SiLU)
_MAX_POOLING = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_AVERAGE_POOLING = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
_DROPOUT = (nn.Dropout, nn.Dropout2d)
_TRANSPARENT = (nn.Identity, nn.Flatten, *_DROPOUT)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_WEIGHTED = (nn.Linear, *_CONVOLUTIONS)
_UNDERSTOOD = (
    *_WEIGHTED, *_HOMOGENEOUS, *_ODD, *_OTHER_ELEMENTWISE, *_MAX_POOLING, *_AVERAGE_POOLING, *_TRANSPARENT
)  # fmt: skip


def from_module(module: nn.Sequential, input_shape: Sequence[int]) -> WeightGraph:
    """Returns the weight graph of a sequential module.

    Each weight layer makes an axis. What stands between it and the next one decides the axis's scaling: a ReLU leaves
    positive numbers, a tanh signs, max-pooling takes the sign away (max(-x) is not -max(x)), any other activation
    takes both. Permutation is always allowed on hidden axes.

    Args:
        module: Its layers, left as they are; shapes are traced on the meta device.
        input_shape: Shape of one input: (C, H, W) for images, (n,) for vectors.

    Raises:
        InputError: A layer is of a kind that is not understood or does not fit what comes before it, layers share
            weights, or the module has no weights.
    """
    if len(list(module.parameters())) != len(list(module.named_parameters(remove_duplicate=False))):
        raise InputError("layers of the module share weights", expected="weights of its own for each layer")
    axes = [Axis("input", tuple(input_shape), "input")]
    layers: list[Layer] = []
    allowed = {"positive", "sign"}
    taps: tuple[int, ...] = ()
    x = torch.empty(1, *input_shape, device="meta")
    # Not `named_children`, which yields a module that stands in several places once.
    for name, layer in copy.deepcopy(module).to("meta", torch.float32)._modules.items():
        before, x = x, _trace(name, layer, x)
        if isinstance(layer, _WEIGHTED):
            if isinstance(layer, _CONVOLUTIONS) and not layers:
                axes[0] = replace(axes[0], shape=(input_shape[0],))
            axes[-1] = replace(axes[-1], scaling=_scaling(axes[-1], allowed))
            layers.append(_layer(name, layer, len(axes), taps))
            _check_fit(name, layer, before, axes[-1], layers[-1])
            axes.append(Axis(name, (x.shape[1],), "hidden", permutable=True))
            allowed, taps = {"positive", "sign"}, ()
        elif isinstance(layer, nn.Flatten) and before.ndim > 2:
            if layers:
                taps = tuple(before.shape[2:])
            else:
                axes[0] = replace(axes[0], shape=tuple(before.shape[1:]))
        else:
            allowed &= _passes(layer)
    if not layers:
        raise InputError("the module has no weights", expected="linear or convolution layers")
    axes[-1] = replace(axes[-1], role="output", permutable=False)
    return WeightGraph(tuple(axes), tuple(layers))


@lru_cache(maxsize=256)
def from_architecture(config: str) -> WeightGraph:
    """Returns the weight graph of a manifest's `architecture_config` (JSON text)."""
    # Only shapes are wanted, and a stranger's file may name any size.
    with torch.device("meta"):
        module = architectures.build(config)
    return from_module(module, json.loads(config)["input_shape"])


def _trace(name: str, layer: nn.Module, x: Tensor) -> Tensor:
    if not isinstance(layer, _UNDERSTOOD):
        raise InputError(f"layer {name} is not understood", got=type(layer).__name__,
                         expected="linear, convolution, pooling, flatten, dropout or activation")  # fmt: skip
    # What is simple is not left to torch, which for the meta device first imports its compiler: seconds.
    if isinstance(layer, (*_HOMOGENEOUS, *_ODD, *_OTHER_ELEMENTWISE, *_DROPOUT)):
        return x
    if isinstance(layer, nn.Linear):
        return x.new_empty(*x.shape[:-1], layer.out_features)
    try:
        return layer(x)
    except (RuntimeError, IndexError, TypeError) as error:
        raise InputError(f"layer {name} does not fit what comes before it", got=str(error).splitlines()[0]) from error


def _check_fit(name: str, module: nn.Module, x: Tensor, axis: Axis, layer: Layer) -> None:
    """Refuses what torch lets pass by broadcasting or for want of a batch dimension."""
    weight = module.weight
    if x.ndim != weight.ndim or weight[0].numel() != axis.size * layer.n_tap:
        got, expected = f"an input of shape {tuple(x.shape[1:])}", f"one for weights of shape {tuple(weight.shape)}"
        raise InputError(f"layer {name} does not fit what comes before it", got=got, expected=expected)


def _layer(name: str, layer: nn.Module, out_axis: int, taps: tuple[int, ...]) -> Layer:
    convolution = isinstance(layer, _CONVOLUTIONS)
    if convolution and layer.groups != 1:
        raise InputError(f"layer {name} is a grouped convolution", got=f"groups={layer.groups}", expected="groups=1")
    bias = f"{name}.bias" if layer.bias is not None else None
    grid = tuple(layer.kernel_size) if convolution else taps
    return Layer(name, "conv" if convolution else "linear", out_axis, out_axis - 1, grid, f"{name}.weight", bias)


def _passes(layer: nn.Module) -> set[str]:
    """Which scalings of its input a layer without weights hands on to its output."""
    if isinstance(layer, (*_TRANSPARENT, *_AVERAGE_POOLING)):
        return {"positive", "sign"}
    if isinstance(layer, (*_HOMOGENEOUS, *_MAX_POOLING)):
        return {"positive"}
    if isinstance(layer, _ODD):
        return {"sign"}
    return set()


def _scaling(axis: Axis, allowed: set[str]) -> Scaling:
    if axis.role != "hidden" or not allowed:
        return "none"
    return "positive" if "positive" in allowed else "sign"
