"""The forward pass of many models of one architecture at once, as batched products over stacked parameters."""

import functools
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peace.errors import InputError

DropoutMask = Callable[[int, tuple[int, ...]], Tensor]
"""(place of the dropout layer, shape without the model axis) -> multiplicative mask [M, *shape]."""

_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Identity)
_POOLING = (nn.MaxPool2d, nn.AvgPool2d)
_IMAGES, _CHANNELS, _FEATURES = "[M, B, C, H, W]", "[B, M*C, H, W]", "[M, F, B]"


def forward(
    module: nn.Sequential, parameters: Mapping[str, Tensor], images: Tensor, mask: DropoutMask | None = None
) -> Tensor:
    """Returns the outputs of M models, each on its own images or all on the same.

    Channels lie as [B, M*C, H, W], so that a convolution is one grouped convolution with a group per model (2 to 3
    times faster on a CPU than unfolding into a product), features as [M, F, B], so that a linear layer is one batched
    product and a softmax runs over whole vectors. Where all models see the same images, the first layer with weights is
    a single product or convolution.

    Args:
        module: The architecture, whose own parameters are not used.
        parameters: Stacked parameters by name. Shape of each: [M, *shape].
        images: Shape [M, B, C, H, W], or [1, B, C, H, W] for all models.
        mask: Dropout masks while training; None switches dropout off.

    Returns:
        Shape [M, B, outputs], a view of [M, outputs, B].

    Raises:
        InputError: The architecture holds a layer that has no stacked form.
    """
    models = len(next(iter(parameters.values())))
    x, layout = images if mask is None else images.expand(models, *images.shape[1:]), _IMAGES
    copies = len(x)
    for place, layer in enumerate(module):
        weight, bias = parameters.get(f"{place}.weight"), parameters.get(f"{place}.bias")
        if isinstance(layer, nn.Flatten):
            x, layout = _features(x, layout, copies), _FEATURES
        elif isinstance(layer, nn.Linear) and layout == _FEATURES:
            x, copies = _linear(x, weight, bias), models
        elif isinstance(layer, nn.Conv2d) and layer.padding_mode == "zeros" and layout != _FEATURES:
            x, layout, copies = _convolution(layer, _channels(x, layout), copies, weight, bias), _CHANNELS, models
        elif isinstance(layer, _POOLING) and layout != _FEATURES:
            x, layout = _pooled(layer, _channels(x, layout)), _CHANNELS
        elif isinstance(layer, nn.Dropout):
            x = x if mask is None else _dropped(x, layout, models, lambda shape, place=place: mask(place, shape))
        elif isinstance(layer, _ELEMENTWISE):
            x = layer(x)
        else:
            raise InputError(f"no stacked form of layer {place}", got=layer, expected="a plain layer")
    return _features(x, layout, copies).mT


def _channels(x: Tensor, layout: str) -> Tensor:
    return x if layout == _CHANNELS else x.transpose(0, 1).flatten(1, 2)


def _features(x: Tensor, layout: str, copies: int) -> Tensor:
    if layout == _FEATURES:
        return x
    return (x if layout == _IMAGES else x.unflatten(1, (copies, -1)).transpose(0, 1)).flatten(2).mT


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    product = weight @ x[0] if len(x) < len(weight) else _product(weight, x)
    return product if bias is None else product + bias[:, :, None]


def _product(left: Tensor, right: Tensor) -> Tensor:
    """The batched product, padded with a few rows where that spares torch's plain loop over products below 400."""
    rows = left.shape[1]
    lacking = -(-400 // (right.shape[1] * right.shape[2])) - rows
    if not 0 < lacking <= rows:
        return torch.bmm(left, right)
    return torch.bmm(F.pad(left, (0, 0, 0, lacking)), right)[:, :rows]


def _convolution(layer: nn.Conv2d, x: Tensor, copies: int, weight: Tensor, bias: Tensor | None) -> Tensor:
    flat_bias = None if bias is None else bias.flatten()
    if layer.groups > 1:
        x, copies = x.repeat(1, len(weight) // copies, 1, 1), len(weight)
    groups = layer.groups * copies
    return F.conv2d(x, weight.flatten(0, 1), flat_bias, layer.stride, layer.padding, layer.dilation, groups)


def _pooled(layer: nn.Module, x: Tensor) -> Tensor:
    """What the layer does; where nothing is learnt without the places of maxima, which take ten times longer."""
    size = getattr(layer, "kernel_size", None)
    plain = isinstance(layer, nn.MaxPool2d) and isinstance(size, int) and layer.stride == size
    if x.requires_grad or not plain or layer.padding or layer.dilation != 1 or layer.ceil_mode:
        return layer(x)
    height, width = x.shape[-2] // size * size, x.shape[-1] // size * size
    rows = functools.reduce(torch.maximum, [x[..., at:height:size, :width] for at in range(size)])
    return functools.reduce(torch.maximum, [rows[..., at::size] for at in range(size)])


def _dropped(x: Tensor, layout: str, models: int, mask: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """What dropout leaves of x; a mask is drawn as [M, B, ...] whatever the layout of x."""
    if layout == _IMAGES:
        return x * mask(tuple(x.shape[1:]))
    if layout == _FEATURES:
        return x * mask((x.shape[2], x.shape[1])).mT
    batch, channels, *rest = x.shape
    return x * mask((batch, channels // models, *rest)).transpose(0, 1).flatten(1, 2)
