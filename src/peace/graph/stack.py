"""A batch: the weights of graphs of one architecture, stacked. A mixed batch is a list of stacks."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from peace.errors import InputError
from peace.graph.part import Part
from peace.graph.weight_graph import WeightGraph


@dataclass(frozen=True)
class Stack:
    """B models of one architecture.

    Attributes:
        graph: Their common structure.
        weights: One tensor a layer. Shape of each: [B, n_out, n_in / groups, n_tap].
        biases: One tensor or None a layer. Shape of each: [B, n_out].
    """

    graph: WeightGraph
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, graph: WeightGraph, tensors: Mapping[str, Tensor]) -> "Stack":
        """Returns stacked state-dict tensors, shape [B, *shape] each, as a stack.

        Numbers are copied only where a derived graph has them in another order.

        Raises:
            InputError: A tensor is missing, superfluous or of another shape.
        """
        names = {name for layer in graph.layers for name in layer.tensors}
        if names != tensors.keys():
            raise InputError("tensors do not fit the architecture", got=sorted(tensors), expected=sorted(names))
        models = len(tensors[graph.layers[0].weight])
        weights, biases = [], []
        for layer in graph.layers:
            if layer.part:
                weights.append(_taken(tensors, layer.part, models))
                biases.append(_taken(tensors, layer.bias_part, models)[:, :, 0, 0] if layer.bias_part else None)
                continue
            n_out, n_in = graph.axes[layer.out_axis].size, graph.axes[layer.in_axis].size
            shape = (n_out, n_in, *layer.taps) if layer.kind == "conv" else (n_out, n_in * layer.n_tap)
            weight = _checked(tensors, layer.weight, models, *shape)
            weights.append(weight.reshape(models, n_out, n_in, layer.n_tap))
            biases.append(_checked(tensors, layer.bias, models, n_out) if layer.bias else None)
        return cls(graph, tuple(weights), tuple(biases))

    def tensors(self, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Returns the stack as state-dict tensors, each in the shape that it has in `like`.

        Raises:
            InputError: The graph is that of a derived group, whose layers are parts of tensors.
        """
        found = {}
        for layer, weight, bias in zip(self.graph.layers, self.weights, self.biases, strict=True):
            if layer.part:
                expected, do = "the graph of a sequential module", "keep the state dict itself"
                raise InputError(
                    "layers of a derived graph are not whole tensors", where=layer.weight, expected=expected, do=do
                )
            found[layer.weight] = weight.reshape(like[layer.weight].shape)
            if bias is not None and layer.bias:
                found[layer.bias] = bias
        return found

    def __len__(self) -> int:
        """Returns B."""
        return len(self.weights[0])

    def map(self, function: Callable[[Tensor], Tensor]) -> "Stack":
        """Returns the stack with a function applied to every tensor."""
        biases = tuple(None if bias is None else function(bias) for bias in self.biases)
        return replace(self, weights=tuple(map(function, self.weights)), biases=biases)

    def select(self, places: Tensor | slice) -> "Stack":
        """Returns the models at these places of the batch."""
        return self.map(lambda tensor: tensor[places])

    def to(self, target: torch.device | torch.dtype) -> "Stack":
        """Returns the stack on another device or in another type."""
        return self.map(lambda tensor: tensor.to(target))


def join(stacks: Sequence[Stack]) -> Stack:
    """Returns stacks of one architecture as one, in order."""
    if len(stacks) == 1:
        return stacks[0]
    weights = tuple(torch.cat(parts) for parts in zip(*(stack.weights for stack in stacks), strict=True))
    biases = tuple(
        None if parts[0] is None else torch.cat(parts)
        for parts in zip(*(stack.biases for stack in stacks), strict=True)
    )
    return Stack(stacks[0].graph, weights, biases)


def _taken(tensors: Mapping[str, Tensor], part: Part, models: int) -> Tensor:
    return part.take(_checked(tensors, part.tensor, models, *part.shape))


def _checked(tensors: Mapping[str, Tensor], name: str, *shape: int) -> Tensor:
    if tuple(tensors[name].shape) != shape:
        got = tuple(tensors[name].shape)
        raise InputError("a tensor does not fit the architecture", where=name, got=got, expected=shape)
    return tensors[name]
