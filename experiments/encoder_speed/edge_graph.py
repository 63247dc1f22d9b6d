"""Graphs of PyG as the edge lists need them: what depends on neither weights nor parameters is found beforehand."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data
from torch_geometric.nn import MessagePassing
from torch_geometric.utils import scatter

from peace.encoders.places import HEADS, NodeMean
from peace.encoders.positions import grid_positions
from peace.graph.weight_graph import WeightGraph

ROLES = ("input", "output")
"""Where sweeps begin: those that go forward, those that go back."""


class Messages(MessagePassing):
    """Σ over edges of weight times the state at the other end."""

    def __init__(self) -> None:
        super().__init__(aggr="sum", node_dim=0)

    def forward(self, x: Tensor, edge_index: Tensor, weight: Tensor) -> Tensor:
        """Returns the sums. Shape: [N, H], of weights [E, K], each for H / K channels that follow each other."""
        return self.propagate(edge_index, x=x, weight=weight)

    def message(self, x_j: Tensor, weight: Tensor) -> Tensor:
        """Returns what each edge says. Shape: [E, H]."""
        return (weight[:, :, None] * x_j.unflatten(1, (weight.shape[1], -1))).flatten(1)


@dataclass(frozen=True)
class Leg:
    """One layer of a sweep.

    Attributes:
        layer: Its number.
        index: Its edges, from the end that says to the end that hears. Shape: [2, e].
        there: Which nodes hear. Shape: [N, 1].
        root: Of how many messages each node has heard before, 1 for none. Shape: [N, 1].
    """

    layer: int
    index: Tensor
    there: Tensor
    root: Tensor


class Filtered(NamedTuple):
    """Weights times functions of their taps, in one direction.

    Attributes:
        of_layers: Those of each layer. Shape of each: [e, K].
        together: Edges and weights of all layers of one K. Shapes: [2, e], [e, K].
    """

    of_layers: Sequence[Tensor]
    together: Sequence[tuple[Tensor, Tensor]]


class EdgeGraph:
    """Graphs of some models of one architecture as PyG holds them, the edges of a layer next to each other.

    Args:
        data: One model, or several joined.
        graph: The architecture.
        models: How many.
    """

    def __init__(self, data: Data, graph: WeightGraph, models: int) -> None:
        order = data.edge_layer.argsort(stable=True)
        self.graph, self.models, self.layers, self.axes = graph, models, len(graph.layers), len(graph.axes)
        self.weight, self.ahead, self.edge_layer = (
            data.edge_attr[order],
            data.edge_index[:, order],
            data.edge_layer[order],
        )
        self.back, self.counts = self.ahead.flip(0), self.edge_layer.bincount().tolist()
        self.nodes, self.bias, self.node_axis, self.node_layer = (
            data.num_nodes, data.node_bias, data.node_axis, data.node_layer)  # fmt: skip
        self.model = data.batch if isinstance(data, Batch) else torch.zeros(self.nodes, dtype=torch.int64)
        self.of_layer = self.model[self.ahead[0]] * self.layers + self.edge_layer
        self.of_axis = self.model * self.axes + self.node_axis
        self.outs = torch.tensor([layer.out_axis for layer in graph.layers])
        self.ins = torch.tensor([layer.in_axis for layer in graph.layers])
        self.sizes = torch.tensor([axis.size for axis in graph.axes]).to(self.weight)
        self.hidden = torch.tensor([axis.role == "hidden" for axis in graph.axes])
        self.begins = [self.nodes_that([axis.role == role for axis in graph.axes]) for role in ROLES]
        self._named = (~self.hidden)[self.node_axis].nonzero()[:, 0]
        self._taps = torch.cat([grid_positions(layer.taps, self.weight) for layer in graph.layers])
        taps = [layer.n_tap for layer in graph.layers]
        self._tap, self._tapped = _row(taps, self.edge_layer, data.edge_tap[order]), torch.tensor(taps) > 1
        self._tapped = self._tapped.repeat_interleave(torch.tensor(taps))[:, None]
        self._places = torch.cat([grid_positions(axis.shape, self.weight) for axis in graph.axes])
        self._place = _row([axis.size for axis in graph.axes], self.node_axis, data.node_place)
        # Filled by the first steps, which do not count.
        self._joined: dict[tuple[bool, tuple[int, ...]], Tensor] = {}
        self.legs, self._roots = zip(*(self._sweep(direction) for direction in range(2)), strict=True)
        self.shares = [self._shares(*ends) for ends in ((self.outs, self.ins), (self.ins, self.outs))]

    def nodes_that(self, axes: Sequence[bool]) -> Tensor:
        """Returns whether a node's axis is chosen. Shape: [N, 1]."""
        return torch.tensor(axes)[self.node_axis, None]

    def tap_codes(self, codes: nn.Module, single: float = 1.0) -> Tensor | None:
        """Returns codes of the edges' taps, a number where a layer has one tap. None where all have. Shape: [E, K]."""
        if not self._tapped.any():
            return None
        return torch.where(self._tapped, codes(self._taps), single)[self._tap]

    def gated(self, weights: Sequence[Tensor], codes: nn.Module) -> Sequence[Tensor]:
        """Returns weights, [E, 1] forward and back, times the halves of codes of their taps. Shapes: [E, K]."""
        found = self.tap_codes(codes)
        if found is None:
            return weights
        return [weight * gate for weight, gate in zip(weights, found.chunk(2, dim=1), strict=True)]

    def filtered(self, weights: Sequence[Tensor], codes: nn.Module, filters: int) -> list["Filtered"]:
        """Returns weights, [E, 1] forward and back, times functions of their taps.

        K is 1 where a layer has one tap, all of H functions where fewer nodes send than there are filters, else those.
        """
        taps, found = self._tap.split(self.counts), []
        ends = ((self.ahead, self.ins), (self.back, self.outs))
        for weight, functions, (index, says) in zip(weights, codes(self._taps).chunk(2, dim=1), ends, strict=True):
            of_layers = []
            for layer, axis, own, tap in zip(self.graph.layers, says, weight.split(self.counts), taps, strict=True):
                few = self.graph.axes[axis].size // layer.groups < filters
                chosen = functions if few else functions[:, :: functions.shape[1] // filters]
                of_layers.append(own if layer.n_tap == 1 else own * chosen[tap])
            found.append(Filtered(of_layers, self._together(index, weight, of_layers)))
        return found

    def _together(self, index: Tensor, weight: Tensor, of_layers: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
        if not self._tapped.any():
            return [(index, weight)]
        widths, found = [each.shape[1] for each in of_layers], []
        for width in sorted(set(widths)):
            alike = tuple(place for place, each in enumerate(widths) if each == width)
            key = (index is self.back, alike)
            if key not in self._joined:
                parts = index.split(self.counts, dim=1)
                self._joined[key] = torch.cat([parts[place] for place in alike], dim=1)
            found.append((self._joined[key], torch.cat([of_layers[place] for place in alike])))
        return found

    def swept(
        self, codes: Sequence[nn.Module], weights: Sequence[Sequence[Tensor]], bias_direction: Tensor | None = None
    ) -> Iterator[Tensor]:
        """Yields what reaches each node from the inputs, then what it contributes to the outputs. Shape: [N, H].

        Sums of all that has reached a node; what it says is over the root of how many messages that were.

        Args:
            codes: Of the places of input nodes, of output nodes.
            weights: On the way forward, on the way back, by layer. Shape of each: [e, K].
            bias_direction: What a bias of 1 adds on the way forward.
        """
        pass_on = Messages()
        for direction in range(2):
            total = torch.where(self.begins[direction], codes[direction](self._places)[self._place], 0.0)
            for leg in self.legs[direction]:
                total = total + pass_on(total / leg.root, leg.index, weights[direction][leg.layer])
                if bias_direction is not None and direction == 0 and self.graph.layers[leg.layer].bias:
                    total = total + leg.there * self.bias * bias_direction
            yield total / self._roots[direction]

    def tokens(self, mean: NodeMean, features: Tensor, *more: Tensor) -> Tensor:
        """Returns what each layer's two axes tell, and more beside it. Shape: [models, L, 16 F + ...]."""
        axes = self.models * self.axes
        plain = scatter(features, self.of_axis, dim_size=axes, reduce="mean").repeat(1, HEADS)
        heads = mean.heads(self._places)[self._place[self._named], :, None]
        heads = (heads * features[self._named, None]).flatten(1)
        named = (
            scatter(heads, self.of_axis[self._named], dim_size=axes) / self.sizes.sqrt().repeat(self.models)[:, None]
        )
        read = torch.where(self.hidden.repeat(self.models)[:, None], plain, named).view(self.models, self.axes, -1)
        return torch.cat([read[:, self.outs], read[:, self.ins], *more], dim=2)

    def _shares(self, hears: Tensor, says: Tensor) -> tuple[Tensor, Tensor]:
        """Of each edge 1 / (√w √k) and 1 / (w √k). Shape: [E, 1].

        The node that hears it has w weights in its layer, and k layers that end there.
        """
        layers = enumerate(self.graph.layers)
        weights = [self.graph.axes[says[place]].size // layer.groups * layer.n_tap for place, layer in layers]
        ends = (hears[:, None] == hears).sum(1)
        w, k = (torch.as_tensor(each).to(self.weight)[self.edge_layer, None] for each in (weights, ends))
        return 1 / (w * k).sqrt(), 1 / (w * k.sqrt())

    def _sweep(self, direction: int) -> tuple[list[Leg], Tensor]:
        """The legs of a sweep, and the root of how many messages a node has heard at its end."""
        index, ends, order = ((self.ahead, self.outs, range(self.layers)),
                              (self.back, self.ins, range(self.layers)[::-1]))[direction]  # fmt: skip
        of_layer, heard, legs = index.split(self.counts, dim=1), self.begins[direction].to(self.weight), []
        for layer in order:
            there = self.node_axis[:, None] == ends[layer]
            legs.append(Leg(layer, of_layer[layer], there, heard.clamp(min=1).sqrt()))
            heard = heard + there
        return legs, heard.clamp(min=1).sqrt()


def _row(lengths: Sequence[int], which: Tensor, places: Tensor) -> Tensor:
    """The row of each place in tables of these lengths, one below the other."""
    return torch.tensor([0, *lengths]).cumsum(0)[which] + places
