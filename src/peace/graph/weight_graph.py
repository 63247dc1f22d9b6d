"""The structure of a network's weights: axes that tensors share, and layers between them. It holds no tensor."""

from dataclasses import dataclass
from math import prod
from typing import Literal

from peace.graph.part import Part

Role = Literal["input", "output", "hidden"]
Scaling = Literal["none", "sign", "positive"]


@dataclass(frozen=True)
class Axis:
    """A set of neurons or channels that several tensors share.

    Attributes:
        name: Unique in its graph.
        shape: The grid that its nodes lie on: (C, H, W) for pixels, (n,) for neurons, channels or classes.
        role: Input and output nodes have identities (pixel 17, class 3), hidden ones have none.
        permutable: Whether renumbering its nodes leaves the network's function unchanged.
        scaling: What its nodes may be multiplied by (and their readers divided by) likewise: nothing, a sign (odd
            activations) or a positive number (positively homogeneous ones).
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    permutable: bool = False
    scaling: Scaling = "none"

    @property
    def size(self) -> int:
        """Number of nodes."""
        return prod(self.shape)


@dataclass(frozen=True)
class Layer:
    """A weight tensor between two axes. Shape: [n_out, n_in / groups, n_tap].

    Attributes:
        name: Path of its module.
        kind: `linear` or `conv`; in graphs of derived groups also `embedding`, `table`, and what is read from an axis
            of one node: `vector` and `norm` (running variance and mean as weight and bias, then weight and bias).
        out_axis: Place of the axis that it writes.
        in_axis: Place of the axis that it reads.
        taps: The grid of kernel positions. A linear layer after a flatten has one tap per position, so that its
            channels stay tied to the convolution before it; any other linear layer has the empty grid, one tap.
        weight: Name of the weight in the state dict.
        bias: Name of the bias, if there is one.
        groups: Number of groups that either axis falls into, in its order; each group of outputs reads the group of
            inputs in the same place alone.
        part: In graphs of derived groups, where in its tensor the weight's numbers stand.
        bias_part: Likewise for the bias.
    """

    name: str
    kind: Literal["linear", "conv", "embedding", "norm", "table", "vector"]
    out_axis: int
    in_axis: int
    taps: tuple[int, ...]
    weight: str
    bias: str | None
    groups: int = 1
    part: Part | None = None
    bias_part: Part | None = None

    @property
    def n_tap(self) -> int:
        """Number of taps."""
        return prod(self.taps)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the tensors that its numbers come from."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)


@dataclass(frozen=True)
class WeightGraph:
    """Axes and layers in the order of the forward pass. Node = neuron or channel, edge = weight.

    Two readings: *layer graphs* take each layer as a bipartite graph of its own; the *network graph* shares the nodes
    of an axis between all layers that touch it.
    """

    axes: tuple[Axis, ...]
    layers: tuple[Layer, ...]

    @property
    def hidden(self) -> tuple[int, ...]:
        """Places of the hidden axes."""
        return tuple(place for place, axis in enumerate(self.axes) if axis.role == "hidden")

    def writers(self, axis: int) -> tuple[int, ...]:
        """Places of the layers whose outputs lie on an axis."""
        return tuple(place for place, layer in enumerate(self.layers) if layer.out_axis == axis)

    def readers(self, axis: int) -> tuple[int, ...]:
        """Places of the layers whose inputs lie on an axis."""
        return tuple(place for place, layer in enumerate(self.layers) if layer.in_axis == axis)
