"""Weights stored in eight bits, and the scales that make them numbers: told from the names that libraries use."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from peace.errors import InputError

EIGHT_BITS = (torch.int8, torch.uint8, torch.float8_e4m3fn, torch.float8_e5m2)
"""What is stored in eight bits; a scale may go with it."""

_SCALES = ("{}_scale", "{}_scale_inv", "{}_scales", "{}.scale", "{}.scales", "{path}scale_{last}", "{path}scale",
           "{path}scales", "{path}SCB")  # fmt: skip
_ZERO_POINTS = ("{}_zero_point", "{}_zero_points", "{}.zero_point", "{path}zero_point", "{path}zero_points")
_OF_ACTIVATIONS = re.compile(r"(.*[._])?(input|output|act|activation|[kqv])_(scale|zero_point)s?|.*scale_input")
_PACKED = re.compile(r"(.*\.)?(qweight|qzeros|absmax|nested_absmax|quant_map|weight_packed|quant_state\..*)")
_BLOCK = 128
_LARGEST = 127


@dataclass(frozen=True)
class Scaling:
    """What stored numbers mean: (stored - zero point) · scale.

    Attributes:
        scale: Name of the scales: one for the tensor, one an output (or for any of the first dimensions), or one a
            block of rows and columns.
        zero_point: Name of what is subtracted before, of the same shapes.
        divisor: By which scales are divided.
    """

    scale: str
    zero_point: str | None = None
    divisor: int = 1

    def applied(self, stored: Tensor, tensors: Mapping[str, Tensor], dtype: torch.dtype) -> Tensor:
        """Returns the numbers that are meant.

        Args:
            stored: In eight bits.
            tensors: Holds scale and zero point.
            dtype: The type wanted.

        Raises:
            InputError: The scales' shape is none of those.
        """
        numbers = stored.to(dtype)
        if self.zero_point:
            numbers -= _spread(tensors[self.zero_point].to(dtype), numbers, self.zero_point)
        return numbers.mul_(_spread(tensors[self.scale].to(dtype) / self.divisor, numbers, self.scale))


def scalings(shapes: Mapping[str, Tensor]) -> dict[str, Scaling]:
    """Returns the scaling of each weight that is stored in eight bits and has scales beside it.

    Names are those of compressed-tensors and vLLM (`weight_scale`, `weight_zero_point`), of block-wise eight-bit floats
    (`weight_scale_inv`, which is multiplied all the same), of bitsandbytes (`SCB`, the largest absolute value of a
    row), of ONNX (`w_quantized`, `w_scale`, `w_zero_point`) and plain ones (`scale`, `scales`).

    Args:
        shapes: Tensors by name, on any device.

    Raises:
        InputError: Weights are packed, several of them in one number.
    """
    packed = next((name for name in shapes if _PACKED.fullmatch(name)), None)
    if packed is not None:
        raise InputError("weights packed in fewer than eight bits are not read", where=f"tensor '{packed}'",
                         expected="numbers of eight bits or more", do="dequantise the checkpoint first")  # fmt: skip
    found = {}
    for name, tensor in shapes.items():
        if tensor.dtype in EIGHT_BITS and (scale := next(_of(name, _SCALES, shapes), None)):
            divisor = _LARGEST if scale.endswith("SCB") else 1
            found[name] = Scaling(scale, next(_of(name, _ZERO_POINTS, shapes), None), divisor)
    return found


def accessories(shapes: Mapping[str, Tensor], found: Mapping[str, Scaling]) -> set[str]:
    """Returns the tensors that are no weights but belong to scalings: scales, zero points, ranges of activations."""
    if not found:
        return set()
    used = {name for scaling in found.values() for name in (scaling.scale, scaling.zero_point) if name}
    return used | {name for name in shapes if _OF_ACTIVATIONS.fullmatch(name)}


def _of(name: str, patterns: tuple[str, ...], known: Mapping[str, Tensor]) -> Iterator[str]:
    for own in dict.fromkeys((name, name.removesuffix("_quantized"))):
        path, dot, last = own.rpartition(".")
        for pattern in patterns:
            other = pattern.format(own, path=path + dot, last=last)
            if other != name and other in known:
                yield other


def _spread(scale: Tensor, numbers: Tensor, name: str) -> Tensor:
    """Scales in a shape that multiplies the numbers: [1, ...], [n_out, 1, ...] or one for each number."""
    if scale.numel() == 1:
        return scale.reshape(())
    shape = tuple(numbers.shape)
    if scale.ndim == 1 and shape and len(scale) == shape[0]:
        return scale.view(-1, *[1] * (len(shape) - 1))
    if scale.ndim == len(shape) and all(size in (1, whole) for size, whole in zip(scale.shape, shape, strict=True)):
        return scale
    if scale.ndim == len(shape) == 2:
        for dim, whole in enumerate(shape):
            scale = scale.repeat_interleave(_block(scale.shape[dim], whole, name), dim)[
                (slice(None),) * dim + (slice(whole),)
            ]
        return scale
    raise InputError("scales do not fit their weight", where=f"tensor '{name}'", got=tuple(scale.shape),
                     expected=f"one for all of {shape}, for each output or for each block")  # fmt: skip


def _block(count: int, whole: int, name: str) -> int:
    """How many rows share a scale, where `count` scales serve `whole` rows."""
    for size in (_BLOCK, -(-whole // count)):
        if -(-whole // size) == count:
            return size
    raise InputError("scales do not fit their weight", where=f"tensor '{name}'", got=f"{count} for {whole} rows",
                     expected="one for each block of rows")  # fmt: skip
