"""What is known of a model's symmetries, as text: its route, its axes, what pinned any, and how large the group is."""

from collections.abc import Sequence

import torch

from peace.graph.families.route import Rebuilt
from peace.graph.group import GroupAxis, SymmetryGroup
from peace.graph.layer_reading import LayerReading

_MOST, _MOST_PINNED = 2, 12
_SCALINGS = {"none": (), "sign": ("sign",), "positive": ("positive scale",), "nonzero": ("positive scale", "sign")}


def route(rebuilt: Rebuilt) -> str:
    """Returns by which route a model is read, and why not by those that were asked before."""
    taken = rebuilt.route
    if rebuilt.module is None:
        head = f"route: {taken.name}, each tensor by itself ({taken.evidence})"
    else:
        shapes = " and ".join("×".join(map(str, tensor.shape)) for tensor in rebuilt.inputs if tensor is not None)
        head = f"route: {taken.name}, {taken.detail} ({taken.evidence}), traced on an input of {shapes}"
    return "\n".join([head, *(f"  not {name}: {why}" for name, why in taken.others.items())])


def group(found: SymmetryGroup, *, every: bool = False) -> str:
    """Returns a derived symmetry group as text.

    Args:
        found: The group.
        every: Whether to name every tensor that touches an axis and every operation that pinned one.
    """
    rows = [
        [_name(axis), _size(axis), axis.role, _symmetries(axis), _names(axis.tensors, every)] for axis in found.axes
    ]
    pinned = [
        f"pinned: {one.channels} channels by {one.operation} in {one.module or 'the module itself'}"
        for one in found.pinned
    ]
    if len(pinned) > _MOST_PINNED and not every:
        pinned[_MOST_PINNED:] = [f"pinned: by {len(pinned) - _MOST_PINNED} more operations"]
    share = found.permutable_channels / found.hidden_channels if found.hidden_channels else 0.0
    moved = found.moved(found.sample(torch.Generator().manual_seed(0)))
    return "\n".join([
        *_table(["axis", "size", "role", "symmetries", "tensors"], rows),
        "",
        *(pinned or ["pinned: nothing"]),
        f"hidden channels: {found.hidden_channels}, of which {found.permutable_channels} permutable ({share:.1%})",
        f"parameters that a random element moves: {moved:.1%}",
        f"permutations and signs: 10^{found.log10_order:.1f}",
    ])  # fmt: skip


def layers(reading: LayerReading) -> str:
    """Returns a layer reading as text."""
    rows = [
        [role.name, role.kind, str(role.n_out), str(role.n_in), "×".join(map(str, role.taps)) or "–", role.bias or "–"]
        for role in reading.layers
    ]
    kinds = ", ".join(f"{count} {kind}" for kind, count in reading.kinds.items())
    return "\n".join([
        *_table(["tensor", "kind", "out", "in", "taps", "bias"], rows),
        "",
        f"tensors: {kinds}",
        f"layouts: {reading.layouts[0]} linear, {reading.layouts[1]} convolution",
        "No symmetry of the function is claimed; layer-wise encoders do not see the order of any tensor's outputs or"
        " inputs.",
    ])  # fmt: skip


def _name(axis: GroupAxis) -> str:
    # A tensor of the module itself, such as a class token, has no module path to name the axis by.
    return axis.name or (axis.tensors[0] if axis.tensors else "–")


def _size(axis: GroupAxis) -> str:
    return f"{axis.size} × {axis.copies}" if axis.copies > 1 else str(axis.size)


def _symmetries(axis: GroupAxis) -> str:
    named = ["permutation"] if axis.permutable else []
    named += _SCALINGS[axis.scaling]
    named += ["any invertible map"] if axis.general else []
    return ", ".join(named) or "none"


def _names(names: Sequence[str], every: bool) -> str:
    shown = names if every else names[:_MOST]
    more = len(names) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "") or "–"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Aligned columns, the last one as long as it is."""
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in (head, *rows)]  # fmt: skip
