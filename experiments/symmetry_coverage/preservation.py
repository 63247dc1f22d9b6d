"""Whether a module computes the same after its tensors were moved."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


def floating(module: nn.Module) -> dict[str, Tensor]:
    """Returns copies of the floating tensors of a module's state dict, tied ones under each of their names."""
    return {name: tensor.clone() for name, tensor in module.state_dict().items() if tensor.is_floating_point()}


@contextmanager
def holding(module: nn.Module, tensors: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """Gives the module while it holds some tensors; afterwards it holds its own again."""
    own = floating(module)
    module.load_state_dict(tensors, strict=False)
    try:
        yield module
    finally:
        module.load_state_dict(own, strict=False)


@torch.no_grad()
def outputs(module: nn.Module, inputs: Sequence[Tensor]) -> Tensor:
    """Returns all that a module computes, one after another. Shape: [numbers]."""
    return torch.cat([leaf.flatten() for leaf in tree_leaves(module(*inputs))])


def relative_change(module: nn.Module, inputs: Sequence[Tensor], tensors: Mapping[str, Tensor]) -> float:
    """Returns the largest change of an output under other tensors, in units of the largest output.

    Args:
        module: A module in eval mode.
        inputs: What it reads.
        tensors: Other tensors for some of the names of its state dict.
    """
    before = outputs(module, inputs)
    with holding(module, tensors):
        after = outputs(module, inputs)
    return float((after - before).abs().max() / before.abs().max())
