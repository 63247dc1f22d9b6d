"""The weights of a checkpoint as numbers of one type, each read and converted when it is asked for."""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from peace.errors import InputError
from peace.zoo.checkpoint import Checkpoint
from peace.zoo.mapped import MappedTensors
from peace.zoo.packed import require_readable
from peace.zoo.quantised import accessories, scalings
from peace.zoo.readers import open_tensors

_INDICES = (torch.int64, torch.bool)


class StoredWeights(Mapping[str, Tensor]):
    """Weights by name, whatever they are stored as: floats of 64 to 8 bits, or integers with scales.

    A weight that is stored in the type wanted is a view of the mapped file. Scales are multiplied in and are no weights
    of their own. A file of integers of eight bits alone and their 32-bit biases, as TFLite's are, is read as it stands:
    each tensor up to a unit that the file does not tell. Only a reading that normalises each weight removes it; the
    default one does not, and a bias has a unit other than its weight's. Other integers, empty tensors and infinite
    scalars (constants of an exported graph) are left out.

    Args:
        checkpoint: Where they lie.
        dtype: The type wanted.

    Raises:
        InputError: A file cannot be read, weights are packed, of a type that is not read or in eight bits without a
            scale beside floats, or there are none.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> None:
        self.path, self.dtype = checkpoint.path, dtype
        self._stored: dict[str, Mapping[str, Tensor]] = {}
        unread: dict[str, str] = {}
        for file in checkpoint.files:
            self._stored |= dict.fromkeys(tensors := open_tensors(file), tensors)
            unread |= tensors.unread if isinstance(tensors, MappedTensors) else {}
        shapes = {name: _shape(tensors, name) for name, tensors in self._stored.items()}
        self._scalings = scalings(shapes)
        require_readable(self.path, shapes, unread, self._scalings)
        without = accessories(shapes, self._scalings)
        self.shapes = {name: like.to(dtype) for name, like in shapes.items() if name not in without
                       and self._is_weight(name, like, shapes)}  # fmt: skip
        if not any(like.ndim for like in self.shapes.values()):
            raise InputError("no weights", where=self.path, got=", ".join(list(shapes)[:4]) or "nothing",
                             expected="tensors of numbers by name")  # fmt: skip

    def __iter__(self) -> Iterator[str]:
        """Returns the names of the weights in file order."""
        return iter(self.shapes)

    def __len__(self) -> int:
        """Returns the number of weights, that is of tensors."""
        return len(self.shapes)

    def bytes(self, name: str) -> int:
        """Returns how many bytes a weight takes in its file."""
        return _shape(self._stored[name], name).nbytes

    def __getitem__(self, name: str) -> Tensor:
        """Returns a weight.

        Raises:
            InputError: It is not finite.
        """
        if name not in self.shapes:
            raise KeyError(name)
        stored = self._stored[name][name]
        if name in self._scalings:
            scaling = self._scalings[name]
            beside = {other: self._stored[other][other] for other in (scaling.scale, scaling.zero_point) if other}
            weight = scaling.applied(stored, beside, self.dtype)
        else:
            weight = (stored.dequantize() if stored.is_quantized else stored).to(self.dtype)
        # The sum of what is not finite is not finite either; one that overflowed is counted.
        if not math.isfinite(weight.sum()) and (wrong := int((~weight.isfinite()).sum())):
            got = f"{wrong} of {weight.numel()} in '{name}'"
            raise InputError("NaN or infinite weights", where=self.path, got=got, expected="finite numbers")
        return weight

    def _is_weight(self, name: str, like: Tensor, shapes: Mapping[str, Tensor]) -> bool:
        if not like.numel() or like.dtype in _INDICES:
            return False
        if like.is_floating_point():
            return like.ndim > 0 or not self._stored[name][name].float().isinf()
        if like.ndim == 1 and like.dtype == torch.int32:
            return any(other.dtype == torch.int8 and other.ndim > 1 for other in shapes.values())
        # Without scales, bytes without a sign are masks.
        return name in self._scalings or (like.dtype == torch.int8 and like.ndim > 1)


def _shape(tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if isinstance(tensors, MappedTensors):
        return tensors.shape(name)
    tensor = tensors[name]
    return torch.empty(tensor.shape, dtype=torch.float32 if tensor.is_quantized else tensor.dtype, device="meta")
