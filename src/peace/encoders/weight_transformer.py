"""A transformer to which each weight is a token (paper c, AttW), and its decoder."""

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace.encoders import ENCODERS, Symmetry
from peace.encoders.blocks import Rate, SequenceDecoder, SequenceEncoder
from peace.encoders.raw import folded
from peace.errors import InputError
from peace.graph.sequences import from_vector, vector
from peace.graph.stack import Stack


@ENCODERS.register("weight_transformer")
class WeightTransformer(nn.Module):
    """Each weight or bias, times a learned direction, with a learned position, through blocks.

    With the compression token the output is what has become of it (AttW+t of paper c, table 2), without the whole
    sequence (AttW). It knows no symmetry. Made for networks of one size; shorter ones are followed by zeros, longer
    ones folded as in `raw`.

    Args:
        hidden_dim: Size of a token.
        num_layers: Number of blocks.
        num_heads: Attention heads.
        feedforward_dim: Hidden size of the blocks' perceptrons.
        dropout: Rate inside the blocks.
        compression_token: Whether there is one.
        max_tokens: Weights and biases of the largest network, N.

    Shape:
        Stack of B models -> [B, 1, hidden_dim] with the compression token, else [B, max_tokens, hidden_dim].

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, section 3; initial values are ours.
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
        max_tokens: PositiveInt = 128,
    ) -> None:
        super().__init__()
        self.output_dim = hidden_dim
        self.direction = nn.Parameter(torch.randn(hidden_dim))
        sizes = (num_layers, num_heads, feedforward_dim, dropout)
        self.sequence = SequenceEncoder(hidden_dim, max_tokens, sizes, compression_token)

    def forward(self, stack: Stack) -> Tensor:
        """Returns the compression token, or all tokens in the order of the weights."""
        return self.sequence(folded([vector(stack)], len(self.sequence.positions))[:, :, None] * self.direction)

    def decoder(self, embedding_dim: int) -> "WeightDecoder":
        """Returns a fresh decoder of the same sizes."""
        return WeightDecoder(self.sequence.decoder(embedding_dim), self.output_dim)


class WeightDecoder(nn.Module):
    """A token a weight, made of the embedding, mapped to one number each.

    Args:
        sequence: Makes the tokens.
        hidden_dim: Size of a token.
    """

    def __init__(self, sequence: SequenceDecoder, hidden_dim: int) -> None:
        super().__init__()
        self.sequence = sequence
        self.number = nn.Linear(hidden_dim, 1)

    def forward(self, embeddings: Tensor, like: Stack) -> Stack:
        """Returns the models that embeddings stand for. Shape: [B, D] -> B models of the graph of `like`.

        Raises:
            InputError: The network is larger than what the decoder was made for.
        """
        tokens = self.sequence(embeddings, len(self.sequence.positions))
        return checked(self.number(tokens)[:, :, 0], like, "encoder.max_tokens")


def checked(found: Tensor, like: Stack, argument: str) -> Stack:
    """Returns decoded vectors as models of the graph of `like`.

    Raises:
        InputError: The vectors are shorter than the models.
    """
    numbers = vector(like.select(slice(0, 1))).shape[1]
    if numbers > found.shape[1]:
        raise InputError("the network is too large for the decoder", got=f"{numbers} weights and biases",
                         expected=f"at most {found.shape[1]}", do=f"raise {argument}")  # fmt: skip
    return from_vector(found, like)
