"""Encoders: a stack of weight graphs in, one token per layer out."""

from abc import abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from typing import ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from peace.graph.stack import Stack
from peace.graph.weight_graph import Layer
from peace.registry import Registry

Symmetry = Literal["permutation", "positive", "sign"]

_TOGETHER = 2**14
"""How many numbers layers of one signature may have to be encoded together: they save calls, and stay in the cache."""


class Encoder(Protocol):
    """What every encoder offers.

    Attributes:
        output_dim: Size of a token.
        symmetries: What tokens do not change under, whatever the reading: renumbering of hidden neurons, multiplying
            them by positive numbers, flipping their signs, each where the network's function allows it.
    """

    output_dim: int
    symmetries: ClassVar[frozenset[Symmetry]]

    def __call__(self, stack: Stack) -> Tensor:
        """Returns tokens in the order of the layers. Shape: [B, L, output_dim]."""
        ...


@runtime_checkable
class Autoencoding(Encoder, Protocol):
    """What an encoder offers whose embeddings can be decoded."""

    def decoder(self, embedding_dim: int) -> nn.Module:
        """Returns a fresh decoder of the encoder's sizes: (embeddings [B, D], models of the graph wanted) -> models.

        The numbers of the models that it is given are not looked at, only their shapes.
        """
        ...


@runtime_checkable
class NodeAutoencoding(Autoencoding, Protocol):
    """What an encoder offers whose decoder takes the states of nodes as a third argument."""

    def read(self, stack: Stack) -> tuple[Tensor, Sequence[Tensor]]:
        """Returns tokens, and the states of each axis's nodes. Shapes: [B, L, output_dim], [B, n, H] each."""
        ...


class LayerEncoder(nn.Module):
    """An encoder to which each layer is a graph of its own, so that no network need be in memory as a whole.

    Attributes:
        output_dim: Size of a token.
        symmetries: See `Encoder`.
        layer_wise: False where arguments let it read the whole network after all; it then has no `token`.
    """

    output_dim: int
    symmetries: ClassVar[frozenset[Symmetry]] = frozenset({"permutation"})
    layer_wise: bool = True

    @abstractmethod
    def token(self, layer: Layer, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Returns the tokens of one layer of B models. Shape: [B, output_dim].

        Args:
            layer: Its kind, its groups and the grid of its taps; axes are left aside.
            weight: Shape: [B, n_out, n_in / groups, n_tap].
            bias: Shape: [B, n_out].
        """

    def forward(self, stack: Stack) -> Tensor:
        """Returns tokens in the order of the layers. Shape: [B, L, output_dim]."""
        tokens: dict[int, Tensor] = {}
        for places in _alike(stack):
            weight = _together([stack.weights[place] for place in places])
            biases = [bias for place in places if (bias := stack.biases[place]) is not None]
            of_all = self.token(stack.graph.layers[places[0]], weight, _together(biases) if biases else None)
            tokens |= zip(places, of_all.chunk(len(places)), strict=True)
        return torch.stack([tokens[place] for place in range(len(tokens))], dim=1)


def _alike(stack: Stack) -> Iterator[list[int]]:
    """Yields places of layers that go through a layer-wise encoder as models of one batch."""
    found: dict[Hashable, list[int]] = {}
    for place, (layer, weight, bias) in enumerate(zip(stack.graph.layers, stack.weights, stack.biases, strict=True)):
        signature = layer.kind, layer.taps, layer.groups, weight.shape, bias is None
        found.setdefault(signature, []).append(place)
    for places in found.values():
        many = max(1, _TOGETHER // stack.weights[places[0]].numel())
        yield from (places[first : first + many] for first in range(0, len(places), many))


def _together(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors)) if len(tensors) > 1 else tensors[0]


ENCODERS: Registry[nn.Module] = Registry("encoder", __name__)
