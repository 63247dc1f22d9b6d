"""The forward pass of many models of one architecture at once, as batched products over stacked parameters."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from peace.errors import InputError

DropoutMask = Callable[[int, tuple[int, ...]], Tensor]
"""(place of the dropout layer, shape without the model axis) -> multiplicative mask [M, *shape]."""

_ELEMENTWISE = (nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.Sigmoid, nn.GELU, nn.SiLU, nn.Identity)
_POOLING = (nn.MaxPool2d, nn.AvgPool2d)


def forward(
    module: nn.Sequential, parameters: Mapping[str, Tensor], images: Tensor, mask: DropoutMask | None = None
) -> Tensor:
    """Returns the outputs of M models, each on its own images.

    A linear layer is one batched matrix product, a convolution one grouped convolution with a group per model (2 to 3
    times faster on a CPU than unfolding into a product).

    Args:
        module: The architecture, whose own parameters are not used.
        parameters: Stacked parameters by name. Shape of each: [M, *shape].
        images: Shape [M, B, C, H, W]; a model axis expanded from 1 is not copied by linear layers.
        mask: Dropout masks while training; None switches dropout off.

    Returns:
        Shape [M, B, outputs].

    Raises:
        InputError: The architecture holds a layer that has no stacked form.
    """
    models, batch = images.shape[:2]
    x = images
    folded = False  # whether x is laid out [B, M*C, H, W], as grouped convolutions want it
    for place, layer in enumerate(module):
        if isinstance(layer, nn.Linear):
            x = _linear(x, parameters[f"{place}.weight"], parameters.get(f"{place}.bias"))
        elif isinstance(layer, nn.Conv2d):
            x = x if folded else x.transpose(0, 1).flatten(1, 2)
            folded = True
            x = _convolution(layer, x, parameters[f"{place}.weight"], parameters.get(f"{place}.bias"))
        elif isinstance(layer, nn.Flatten):
            x = x.unflatten(1, (models, -1)).transpose(0, 1) if folded else x
            folded = False
            x = x.flatten(2)
        elif isinstance(layer, nn.Dropout):
            x = x if mask is None else x * _laid_out(mask, place, x, models, folded)
        elif isinstance(layer, _ELEMENTWISE) or (isinstance(layer, _POOLING) and folded):
            x = layer(x)
        else:
            raise InputError(f"no stacked form of layer {place}", got=type(layer).__name__, expected="a plain layer")
    return x.view(models, batch, -1)


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.bmm(x, weight.mT) if bias is None else torch.baddbmm(bias[:, None], x, weight.mT)


def _convolution(layer: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    flat_bias = None if bias is None else bias.flatten()
    groups = len(weight) * layer.groups
    return F.conv2d(x, weight.flatten(0, 1), flat_bias, layer.stride, layer.padding, layer.dilation, groups)


def _laid_out(mask: DropoutMask, place: int, x: Tensor, models: int, folded: bool) -> Tensor:
    """The mask in the layout of x, which depends on what stands before the dropout layer."""
    if not folded:
        return mask(place, tuple(x.shape[1:]))
    batch, channels, *rest = x.shape
    return mask(place, (batch, channels // models, *rest)).transpose(0, 1).flatten(1, 2)
