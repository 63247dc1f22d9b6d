"""Checkpoints of whose weights some cannot be read as numbers: refused, as the rest alone is another network."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from peace.errors import InputError
from peace.zoo.mapped import DTYPES
from peace.zoo.quantised import Scaling

_SCALES = "scales"
_NEVER_PACKED = (torch.int64, torch.bool)


def require_readable(
    path: Path, shapes: Mapping[str, Tensor], unread: Mapping[str, str], found: Mapping[str, Scaling]
) -> None:
    """Refuses packed weights, weights of a type that is not read, and eight bits of unknown unit beside floats.

    What has fewer than two dimensions is no weight of these, and bytes without a sign, a scale or the name of a weight
    are masks. A file of integers alone, as TFLite's are, has a unit for each tensor that nothing in it tells.

    Args:
        path: The checkpoint.
        shapes: Its tensors by name, on any device.
        unread: Names and types of tensors of two or more dimensions whose type torch lacks.
        found: The scalings that are known.

    Raises:
        InputError: There is such a tensor.
    """
    wrong = {**unread, **_unreadable(shapes, found)}
    if name := next(iter(wrong), None):
        is_packed = not wrong[name].startswith("complex")
        raise InputError("packed weights that PEACE cannot unpack" if is_packed else "weights that PEACE cannot read",
                         where=path, got=f"'{name}' of type {wrong[name]}",
                         expected="floats, or integers of eight bits with scales",
                         do="dequantise the checkpoint first" if is_packed else None)  # fmt: skip
    bare = (name for name, like in shapes.items() if like.dtype == torch.int8 and like.ndim > 1 and name not in found)
    if (name := next(bare, None)) and any(like.is_floating_point() and like.ndim for like in shapes.values()):
        raise InputError("weights in eight bits without a scale", where=path, got=f"'{name}' beside floats",
                         expected="its scales, by a name such as 'weight_scale'",
                         do="dequantise the checkpoint first")  # fmt: skip


def _unreadable(shapes: Mapping[str, Tensor], found: Mapping[str, Scaling]) -> dict[str, str]:
    """Types of the tensors that hold weights which cannot be read, by name."""
    wide = {name: like for name, like in shapes.items() if like.ndim > 1}
    return {name: str(like.dtype).removeprefix("torch.") for name, like in wide.items()
            if like.dtype not in DTYPES.values() or _is_packed(name, like, shapes, found)}  # fmt: skip


def _is_packed(name: str, like: Tensor, shapes: Mapping[str, Tensor], found: Mapping[str, Scaling]) -> bool:
    if like.is_floating_point() or like.dtype in _NEVER_PACKED:
        return False
    if scaling := found.get(name):
        # Numbers without a sign have a zero point; two of four bits in one have groups of columns.
        grouped = scaling.scale.endswith(_SCALES) or shapes[scaling.scale].shape[1:].numel() > 1
        return like.dtype == torch.uint8 and scaling.zero_point is None and grouped
    if like.dtype == torch.int8:
        return False
    return _has_scales(name, shapes) or (like.dtype == torch.uint8 and name.rpartition(".")[2] == "weight")


def _has_scales(name: str, shapes: Mapping[str, Tensor]) -> bool:
    """Whether scales are named after a tensor or its module: `x.scales` of `x.weight`, `x_scales` of `x_blocks`."""
    folder = name.rpartition(".")[0]
    beside = (other for other in shapes if other.endswith(_SCALES) and other != name)
    return any(
        other == f"{name}.{_SCALES}"
        or (other.rpartition(".")[0] == folder and name.startswith(other.removesuffix(_SCALES).rstrip("_")))
        for other in beside
    )
