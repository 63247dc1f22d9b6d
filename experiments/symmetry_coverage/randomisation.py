"""Random weights under which no part of a network is dead.

A fresh module hides much of its function: biases are 0, normalisations do nothing, layer scales are 1e-6, position
tables are 0. What a symmetry forgets about them would then go unseen.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvTransposeNd

NORMS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


@torch.no_grad()
def randomised(
    module: nn.Module, generator: torch.Generator, dtype: torch.dtype = torch.float64, gain: float = 2**0.5
) -> nn.Module:
    """Returns the module itself in eval mode, of another type, its parameters and normalisation statistics drawn anew.

    Weights are normal with a variance of `gain`² over the fan-in; biases normal with 0.1; the weights of
    normalisations 0.5 to 1.5 of either sign, their means normal with 0.2 and their variances 0.5 to 2; layer scales 0.5
    to 1; tokens and tables of positions normal with 0.5.

    Args:
        module: Any module.
        generator: Draws on the CPU, whatever the device.
        dtype: The type that it gets.
        gain: Factor of the weights of linear layers and convolutions.
    """
    module = module.eval().to(dtype)
    drawn: set[int] = set()
    for owner in module.modules():
        for name, tensor in [*owner.named_parameters(recurse=False), *owner.named_buffers(recurse=False)]:
            if id(tensor) not in drawn and (isinstance(tensor, nn.Parameter) or name.startswith("running_")):
                drawn.add(id(tensor))
                tensor.copy_(_draw(owner, name, tensor.shape, generator, gain))
    return module


def _draw(owner: nn.Module, name: str, shape: torch.Size, generator: torch.Generator, gain: float) -> Tensor:
    """One parameter or running statistic in double precision."""
    normal = torch.randn(shape, generator=generator, dtype=torch.float64)
    unit = torch.rand(shape, generator=generator, dtype=torch.float64)
    if name == "running_mean":
        return 0.2 * normal
    if name == "running_var":
        return 0.5 + 1.5 * unit
    if isinstance(owner, NORMS) and name == "weight":
        return (0.5 + unit) * normal.sign()
    if name.startswith("gamma"):
        return 0.5 + 0.5 * unit
    if isinstance(owner, nn.PReLU):
        return 0.1 + 0.3 * unit
    if name.startswith(("pos", "cls", "relative")):
        return 0.5 * normal
    if len(shape) < 2:
        return 0.1 * normal
    return gain * normal / math.sqrt(_fan_in(owner, shape))


def _fan_in(owner: nn.Module, shape: torch.Size) -> float:
    if isinstance(owner, _ConvTransposeNd):
        return shape[0] * math.prod(shape[2:]) / owner.groups / math.prod(owner.stride)
    return math.prod(shape[1:])
