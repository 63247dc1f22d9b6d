"""A state dict of unknown wiring: each tensor a layer with an out axis and an in axis of its own."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import prod

import torch
from torch import Tensor

from peace.errors import InputError
from peace.graph.layer_roles import CONVOLUTIONS, TensorRole, matrix_kind, vector_kind
from peace.graph.layout import Layout, layout_of, order
from peace.graph.part import grid
from peace.graph.stack import Stack
from peace.graph.weight_graph import Axis, Layer, WeightGraph

_BIASES = {
    "weight": ("bias",), "weights": ("bias", "biases"), "kernel": ("bias",), "depthwise_kernel": ("bias",),
    "pointwise_kernel": ("bias",), "w": ("b",), "in_proj_weight": ("in_proj_bias",), "gamma": ("beta",),
    "running_var": ("running_mean",), "moving_variance": ("moving_mean",), "matmul": ("biasadd",),
    "weight_ih": ("bias_ih",), "weight_hh": ("bias_hh",),
}  # fmt: skip
_INDICES = (torch.int64, torch.bool)


@dataclass(frozen=True)
class LayerReading:
    """What is known of a state dict without its module.

    Layer-wise encoders are invariant to independent permutations of each tensor's out axis and in axis. Nothing is
    said about the function: which of those permutations leave it unchanged depends on the wiring.

    Attributes:
        roles: One for each tensor, in the order of the state dict.
        layouts: Of linear weights and of convolutions.
    """

    roles: tuple[TensorRole, ...]
    layouts: tuple[Layout, Layout]

    @property
    def layers(self) -> tuple[TensorRole, ...]:
        """The tensors that are layers: all except biases that go with one, and indices."""
        return tuple(role for role in self.roles if role.owner is None and role.kind != "index")

    @property
    def kinds(self) -> dict[str, int]:
        """How many tensors there are of each kind, the most frequent first."""
        return dict(Counter(role.kind for role in self.roles).most_common())

    def graph(self) -> WeightGraph:
        """Returns the layers as a weight graph, two axes each that nothing else touches."""
        axes = [axis for role in self.layers for axis in _axes(role)]
        layers = tuple(
            Layer(role.name, "conv" if role.taps else "linear", 2 * place, 2 * place + 1, grid(role.taps), role.name,
                  role.bias)
            for place, role in enumerate(self.layers)
        )  # fmt: skip
        return WeightGraph(tuple(axes), layers)

    def stack(self, tensors: Mapping[str, Tensor]) -> Stack:
        """Returns stacked tensors as layers.

        Args:
            tensors: By name, those of the reading. Shape of each: [B, *shape].

        Raises:
            InputError: A tensor is missing.
        """
        needed = {name for role in self.layers for name in (role.name, role.bias) if name}
        if lacking := sorted(needed - tensors.keys()):
            raise InputError("tensors of the reading are missing", got=", ".join(lacking[:3]), expected="none missing")
        weights = tuple(_as_layer(role, tensors[role.name]) for role in self.layers)
        biases = tuple(None if role.bias is None else tensors[role.bias] for role in self.layers)
        return Stack(self.graph(), weights, biases)


def read_layers(tensors: Mapping[str, Tensor]) -> LayerReading:
    """Returns the layer reading of a state dict, from names, shapes and types alone.

    Args:
        tensors: By name; on any device, the meta device included.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    indices = {name for name, tensor in tensors.items() if tensor.dtype in _INDICES}
    own = {name: shape for name, shape in shapes.items() if name not in indices}
    biases = dict(_pairs(own))
    owners = {bias: weight for weight, bias in biases.items()}
    outs = {weight: own[bias][0] for weight, bias in biases.items()}
    linear = {name: shape for name, shape in own.items() if len(shape) == 2}
    kernels = {name: shape for name, shape in own.items() if matrix_kind(name, shape, name in biases) in CONVOLUTIONS}
    layouts = (layout_of(linear, outs), layout_of(kernels, outs))
    roles = []
    for name, shape in shapes.items():
        if name in indices:
            roles.append(TensorRole(name, "index"))
        elif len(shape) < 2:
            roles.append(_vector(name, shape, biases.get(name), owners.get(name), own))
        else:
            roles.append(_matrix(name, shape, biases.get(name), layouts[len(shape) > 2]))
    return LayerReading(tuple(_depthwise(roles)), layouts)


def _pairs(shapes: Mapping[str, tuple[int, ...]]) -> Iterator[tuple[str, str]]:
    """Yields each weight with its bias: a vector of the same module whose size is one of the weight's."""
    for name, shape in shapes.items():
        path, separator, last = _parted(name)
        stem, suffix = re.fullmatch(r"(.*?)((?:_l\d+)?(?:_reverse)?(?::\d+)?)", last).groups()  # type: ignore[union-attr]
        for bias in _BIASES.get(stem.lower(), ()):
            other = path + separator + (bias.upper() if stem.isupper() and len(stem) > 1 else bias) + suffix
            size = shapes.get(other)
            if size and len(size) == 1 and size[0] in (shape[:1] + shape[-1:] if len(shape) > 1 else shape):
                yield name, other


def _parted(name: str) -> tuple[str, str, str]:
    match = re.fullmatch(r"(.*?)([./]?)([^./]*)", name)
    return match[1], match[2], match[3]  # type: ignore[index]


def _vector(
    name: str, shape: tuple[int, ...], bias: str | None, owner: str | None, shapes: Mapping[str, tuple[int, ...]]
) -> TensorRole:
    if not shape:
        return TensorRole(name, "scalar")
    of_layer = owner is not None and len(shapes[owner]) > 1
    kind = "bias" if of_layer else vector_kind(name, bool(bias or owner))
    return TensorRole(name, kind, n_out=shape[0], bias=bias, owner=owner)


def _matrix(name: str, shape: tuple[int, ...], bias: str | None, layout: Layout) -> TensorRole:
    dimensions = order(layout, len(shape))
    sizes = [shape[place] for place in dimensions]
    kind = matrix_kind(name, tuple(sizes), bias is not None)
    if kind in ("embedding", "position table", "token", "tensor", "transposed conv"):
        dimensions = _unusual(kind, shape)
        sizes = [shape[place] for place in dimensions]
    if kind == "depthwise conv" and sizes[0] == 1:
        # Keras and TFLite count the channels of one as inputs.
        dimensions, sizes = (dimensions[1], dimensions[0], *dimensions[2:]), [sizes[1], 1, *sizes[2:]]
    if kind in ("position table", "token"):
        return TensorRole(name, kind, dimensions, sizes[0], 1, tuple(size for size in sizes[1:] if size > 1), bias)
    if kind == "tensor":
        return TensorRole(name, kind, dimensions, sizes[0], prod(sizes[1:]), (), bias)
    return TensorRole(name, kind, dimensions, sizes[0], sizes[1], tuple(sizes[2:]), bias)


def _unusual(kind: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Tables are kept entry by entry, each a row of channels; transposed convolutions in by out."""
    rank = len(shape)
    if kind == "embedding":
        return (1, 0)
    if kind == "transposed conv":
        return (1, 0, *range(2, rank))
    if kind == "tensor":
        return tuple(range(rank))
    # [1, C, H, W] is a map of channels, anything else ends with them.
    channels = 1 if rank == 4 and shape[0] == 1 and shape[1] > 1 else rank - 1
    return (channels, *(place for place in range(rank) if place != channels))


def _depthwise(roles: list[TensorRole]) -> list[TensorRole]:
    """One convolution with one input channel may read a grey image; several are depthwise."""
    alone = [role for role in roles if role.kind == "conv" and role.n_in == 1 < min(role.n_out, role.n_tap)]
    if len(alone) < 2:
        return roles
    return [replace(role, kind="depthwise conv") if role in alone else role for role in roles]


def _axes(role: TensorRole) -> tuple[Axis, Axis]:
    return (
        Axis(f"{role.name} out", (role.n_out,), "hidden", permutable=True),
        Axis(f"{role.name} in", (role.n_in,), "input", permutable=True),
    )


def _as_layer(role: TensorRole, tensor: Tensor) -> Tensor:
    """A stacked tensor. Shape: [B, n_out, n_in, n_tap]."""
    moved = tensor.permute(0, *(1 + place for place in role.order)) if role.order else tensor
    return moved.reshape(len(tensor), role.n_out, role.n_in, role.n_tap)
