"""A module's structure without its numbers: the same parts in the same places, their tensors on the meta device."""

import copy
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Shadow:
    """A copy of a module that holds no numbers.

    Attributes:
        module: The copy, in eval mode.
        twins: Every tensor that the module holds, with its twin in the copy, by the tensor's id.
        names: Name of each floating tensor of the state dict -> the first name of the same tensor.
        tensors: First name -> twin.
        entwined: First names of tensors that share memory with another in another shape.
    """

    module: nn.Module
    twins: dict[int, tuple[Tensor, Tensor]]
    names: dict[str, str]
    tensors: dict[str, Tensor]
    entwined: tuple[str, ...]

    @classmethod
    def of(cls, module: nn.Module) -> "Shadow":
        """Returns the shadow of a module, which is left alone: no memory is needed for its numbers."""
        twins: dict[int, tuple[Tensor, Tensor]] = {}
        geometries: dict[tuple, Tensor] = {}
        for tensor in _held(module):
            if id(tensor) not in twins:
                twin = geometries.setdefault(_geometry(tensor), _without_numbers(tensor))
                twins[id(tensor)] = (tensor, twin)
        copied = copy.deepcopy(module, {key: twin for key, (_, twin) in twins.items()}).eval()
        first: dict[int, str] = {}
        names, tensors, shared = {}, {}, defaultdict(dict)
        for name, tensor in module.state_dict(keep_vars=True).items():
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                twin = twins[id(tensor)][1]
                names[name] = first.setdefault(id(twin), name)
                tensors.setdefault(names[name], twin)
                shared[tensor.untyped_storage()._cdata].setdefault(names[name], tensor)
        entwined = [name for group in shared.values() for name in group if len(group) > 1 and _meets(name, group)]
        return cls(copied, twins, names, tensors, tuple(entwined))


def _held(module: nn.Module) -> Iterator[Tensor]:
    for part in module.modules():
        for values in (part._parameters, part._buffers, vars(part)):
            yield from (value for value in values.values() if isinstance(value, Tensor))


def _without_numbers(tensor: Tensor) -> Tensor:
    twin = torch.empty_like(tensor, device="meta", requires_grad=False)
    return nn.Parameter(twin, requires_grad=False) if isinstance(tensor, nn.Parameter) else twin


def _geometry(tensor: Tensor) -> tuple:
    """What two names of one tensor agree in."""
    return tensor.untyped_storage()._cdata, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), tensor.dtype


def _meets(name: str, group: dict[str, Tensor]) -> bool:
    return any(overlap(group[name], tensor) for other, tensor in group.items() if other != name)


def overlap(first: Tensor, second: Tensor) -> bool:
    """Returns whether two tensors over one memory have a place in common."""
    if first.numel() * second.numel() == 0:
        return False
    used = np.zeros(max(_end(first), _end(second)), dtype=bool)
    views = [
        np.lib.stride_tricks.as_strided(used[tensor.storage_offset() :], tuple(tensor.shape), tensor.stride())
        for tensor in (first, second)
    ]
    views[0][...] = True
    return bool(views[1].any())


def _end(tensor: Tensor) -> int:
    """One more than the last place of memory that a tensor uses."""
    return tensor.storage_offset() + 1 + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
