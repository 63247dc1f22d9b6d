"""A transformer to which each weight is a token (paper c, AttW), and its decoder."""

from typing import ClassVar

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from peace.encoders import ENCODERS, Symmetry
from peace.encoders.blocks import Blocks, Rate
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
        # As large as what they are added to: normalisation would lose how large weights are beside smaller ones.
        self.positions = nn.Parameter(torch.randn(max_tokens, hidden_dim))
        self.compression = nn.Parameter(torch.randn(hidden_dim)) if compression_token else None
        self.sizes = (num_layers, num_heads, feedforward_dim, dropout)
        self.blocks = Blocks(hidden_dim, *self.sizes)
        self.norm = nn.LayerNorm(hidden_dim)

    def forward(self, stack: Stack) -> Tensor:
        """Returns the compression token, or all tokens in the order of the weights."""
        tokens = folded([vector(stack)], len(self.positions))[:, :, None] * self.direction + self.positions
        if self.compression is None:
            return self.norm(self.blocks(tokens))
        first = self.compression.expand(len(tokens), 1, -1).to(tokens)
        return self.norm(self.blocks(torch.cat([first, tokens], dim=1))[:, :1])

    def decoder(self, embedding_dim: int) -> "WeightDecoder":
        """Returns a fresh decoder of the same sizes."""
        return WeightDecoder(embedding_dim, self.output_dim, self.sizes, len(self.positions))


class WeightDecoder(nn.Module):
    """An embedding mapped linearly to a token a weight, with learned positions, through blocks, and to one number each.

    Args:
        embedding_dim: D.
        hidden_dim: Size of a token.
        sizes: Number of blocks, of heads, hidden size of their perceptrons, dropout.
        max_tokens: As in the encoder.
    """

    def __init__(
        self, embedding_dim: int, hidden_dim: int, sizes: tuple[int, int, int, float], max_tokens: int
    ) -> None:
        super().__init__()
        self.spread = nn.Linear(embedding_dim, max_tokens * hidden_dim)
        self.positions = nn.Parameter(torch.randn(max_tokens, hidden_dim))
        self.blocks = Blocks(hidden_dim, *sizes)
        self.norm = nn.LayerNorm(hidden_dim)
        self.number = nn.Linear(hidden_dim, 1)

    def forward(self, embeddings: Tensor, like: Stack) -> Stack:
        """Returns the models that embeddings stand for. Shape: [B, D] -> B models of the graph of `like`.

        Raises:
            InputError: The network is larger than what the decoder was made for.
        """
        tokens = self.spread(embeddings).unflatten(1, self.positions.shape) + self.positions
        return checked(self.number(self.norm(self.blocks(tokens)))[:, :, 0], like, "encoder.max_tokens")


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
