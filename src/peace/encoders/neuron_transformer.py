"""A transformer to which each neuron or kernel is a token (paper c, AttN), and its decoder."""

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace.encoders import ENCODERS, Symmetry
from peace.encoders.blocks import Rate, SequenceDecoder, SequenceEncoder
from peace.encoders.raw import folded
from peace.errors import InputError
from peace.graph.sequences import from_rows, rows
from peace.graph.stack import Stack


@ENCODERS.register("neuron_transformer")
class NeuronTransformer(nn.Module):
    """Each neuron's weights and bias, mapped linearly by a map of its layer, with a learned position, through blocks.

    With the compression token, a learned token in front of the sequence, the output is what has become of it (AttN+t
    of paper c, table 2); without, the output is the whole sequence (AttN). It knows no symmetry: that renumbered
    neurons are the same has to be learnt from views.

    Made for one architecture, whose sizes its arguments name; of others it takes what fits: layers beyond
    `max_layers` begin with the first map again, rows longer than `max_row` are folded as in `raw`.

    Args:
        hidden_dim: Size of a token.
        num_layers: Number of blocks.
        num_heads: Attention heads.
        feedforward_dim: Hidden size of the blocks' perceptrons.
        dropout: Rate inside the blocks.
        compression_token: Whether there is one.
        max_tokens: Neurons and kernels of the largest network.
        max_row: Weights and bias of the largest neuron or kernel.
        max_layers: Number of linear maps.

    Shape:
        Stack of B models -> [B, 1, hidden_dim] with the compression token, else [B, neurons, hidden_dim].

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, section 3; the order of normalisation and the maps of the layers are
        those of the authors' code, initial values are ours.
    """

    symmetries: ClassVar[frozenset[Symmetry]] = frozenset()

    def __init__(
        self,
        hidden_dim: PositiveInt = 128,
        num_layers: PositiveInt = 2,
        num_heads: PositiveInt = 1,
        feedforward_dim: PositiveInt = 512,
        dropout: Rate = 0.1,
        compression_token: bool = True,
        max_tokens: PositiveInt = 256,
        max_row: PositiveInt = 256,
        max_layers: PositiveInt = 16,
    ) -> None:
        super().__init__()
        self.output_dim, self.max_row = hidden_dim, max_row
        self.maps = nn.Parameter(torch.randn(max_layers, max_row, hidden_dim))
        sizes = (num_layers, num_heads, feedforward_dim, dropout)
        self.sequence = SequenceEncoder(hidden_dim, max_tokens, sizes, compression_token)

    def forward(self, stack: Stack) -> Tensor:
        """Returns the compression token, or all tokens in the order of layers and neurons.

        Raises:
            InputError: The network has more neurons than there are positions.
        """
        return self.sequence(torch.cat([self._mapped(row, place) for place, row in enumerate(rows(stack))], dim=1))

    def _mapped(self, row: Tensor, place: int) -> Tensor:
        if row.shape[2] > self.max_row:
            row = folded([row.flatten(0, 1)], self.max_row).unflatten(0, row.shape[:2])
        return row @ self.maps[place % len(self.maps), : row.shape[2]]

    def decoder(self, embedding_dim: int) -> "NeuronDecoder":
        """Returns a fresh decoder of the same sizes."""
        layers, row, dim = self.maps.shape
        return NeuronDecoder(self.sequence.decoder(embedding_dim), dim, row, layers)


class NeuronDecoder(nn.Module):
    """A token a neuron, made of the embedding, mapped to its weights and bias by a map of its layer.

    Args:
        sequence: Makes the tokens.
        hidden_dim: Size of a token.
        max_row: As in the encoder.
        max_layers: As in the encoder.
    """

    def __init__(self, sequence: SequenceDecoder, hidden_dim: int, max_row: int, max_layers: int) -> None:
        super().__init__()
        self.sequence = sequence
        self.maps = nn.Parameter(torch.randn(max_layers, hidden_dim, max_row) / hidden_dim**0.5)
        self.offsets = nn.Parameter(torch.zeros(max_layers, max_row))

    def forward(self, embeddings: Tensor, like: Stack) -> Stack:
        """Returns the models that embeddings stand for. Shape: [B, D] -> B models of the graph of `like`.

        Raises:
            InputError: The network is larger than what the decoder was made for.
        """
        shapes = [row.shape[1:] for row in rows(like)]
        neurons, largest, (layers, row) = sum(n for n, _ in shapes), max(r for _, r in shapes), self.offsets.shape
        if neurons > len(self.sequence.positions) or largest > row or len(shapes) > layers:
            got = f"{neurons} neurons of up to {largest} weights in {len(shapes)} layers"
            expected = f"at most {len(self.sequence.positions)}, {row} and {layers}"
            do = "raise encoder.max_tokens, max_row or max_layers"
            raise InputError("the network is too large for the decoder", got=got, expected=expected, do=do)
        parts = self.sequence(embeddings, neurons).split([n for n, _ in shapes], dim=1)
        found = [part @ self.maps[place, :, :r] + self.offsets[place, :r]
                 for place, (part, (_, r)) in enumerate(zip(parts, shapes, strict=True))]  # fmt: skip
        return from_rows(found, like)
