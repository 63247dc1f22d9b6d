"""Transformer blocks over the tokens of one model, shared by encoders of weights as sequences and their decoders."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from peace.errors import InputError

Rate = Annotated[float, Field(ge=0, lt=1)]

_WORD = 1 << 16
_SHORT = 32
"""Tokens up to which attention on a processor is plain products: the fused kernel takes up to twice as long on ten."""


class Blocks(nn.Module):
    """Pre-norm blocks of self-attention and a two-layer perceptron with ReLU.

    x ← x + drop(Attention(LayerNorm(x))), x ← x + drop(MLP(LayerNorm(x))). Dropout is on what a block adds, where
    the source has it, and nowhere inside.

    Args:
        dim: Size of a token.
        num_layers: Number of blocks.
        num_heads: Attention heads; they divide `dim`.
        feedforward_dim: Size of the perceptron's hidden layer.
        dropout: Rate.

    Raises:
        InputError: `dim` is no multiple of `num_heads`.

    Shape:
        [B, n, dim] -> [B, n, dim], or [B, kept, dim].

    Reference:
        Vaswani et al. 2017, arXiv:1706.03762, sections 3 and 5.4; normalisation before each part instead of after it as
        in Xiong et al. 2020, arXiv:2002.04745.
    """

    def __init__(self, dim: int, num_layers: int, num_heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        if dim % num_heads:
            raise InputError("a token does not divide into heads", got=f"hidden_dim {dim}, num_heads {num_heads}",
                             expected="a multiple", do="change encoder.num_heads")  # fmt: skip
        self.blocks = nn.ModuleList(_Block(dim, num_heads, feedforward_dim, dropout) for _ in range(num_layers))

    def forward(self, tokens: Tensor, kept: int | None = None) -> Tensor:
        """Returns the tokens after all blocks, or the first ones of them.

        Args:
            tokens: Shape: [B, n, dim].
            kept: How many are wanted; the last block makes no others. None is all.
        """
        *first, last = self.blocks
        for block in first:
            tokens = block(tokens)
        return last(tokens, kept)


class SequenceEncoder(nn.Module):
    """Tokens with learned positions through blocks, read at a compression token in front of them or as they are.

    Args:
        dim: Size of a token.
        max_tokens: Number of positions.
        sizes: Number of blocks, of heads, hidden size of their perceptrons, dropout.
        compression_token: Whether there is one.

    Shape:
        [B, n, dim] -> [B, 1, dim] with the compression token, else [B, n, dim].
    """

    def __init__(self, dim: int, max_tokens: int, sizes: tuple[int, int, int, float], compression_token: bool) -> None:
        super().__init__()
        # As large as what they are added to: normalisation would lose how large weights are beside smaller ones.
        self.positions = nn.Parameter(torch.randn(max_tokens, dim))
        self.compression = nn.Parameter(torch.randn(dim)) if compression_token else None
        self.sizes = sizes
        self.blocks = Blocks(dim, *sizes)
        self.norm = nn.LayerNorm(dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the compression token, or all tokens.

        Raises:
            InputError: There are more tokens than positions.
        """
        if tokens.shape[1] > len(self.positions):
            raise InputError("the network has too many neurons for the encoder", got=tokens.shape[1],
                             expected=f"at most {len(self.positions)}", do="raise encoder.max_tokens")  # fmt: skip
        tokens = tokens + self.positions[: tokens.shape[1]]
        if self.compression is None:
            return self.norm(self.blocks(tokens))
        first = self.compression.expand(len(tokens), 1, -1).to(tokens)
        return self.norm(self.blocks(torch.cat([first, tokens], dim=1), kept=1))

    def decoder(self, embedding_dim: int) -> "SequenceDecoder":
        """Returns a fresh decoder of the same sizes."""
        return SequenceDecoder(embedding_dim, *reversed(self.positions.shape), self.sizes)


class SequenceDecoder(nn.Module):
    """An embedding mapped linearly to tokens, with learned positions, through blocks.

    Args:
        embedding_dim: D.
        dim: Size of a token.
        max_tokens: As in the encoder.
        sizes: Number of blocks, of heads, hidden size of their perceptrons, dropout.
    """

    def __init__(self, embedding_dim: int, dim: int, max_tokens: int, sizes: tuple[int, int, int, float]) -> None:
        super().__init__()
        self.spread = nn.Linear(embedding_dim, max_tokens * dim)
        self.positions = nn.Parameter(torch.randn(max_tokens, dim))
        self.blocks = Blocks(dim, *sizes)
        self.norm = nn.LayerNorm(dim)

    def forward(self, embeddings: Tensor, count: int) -> Tensor:
        """Returns the first `count` tokens. Shape: [B, D] -> [B, count, dim]."""
        tokens = self.spread(embeddings).unflatten(1, self.positions.shape) + self.positions
        return self.norm(self.blocks(tokens[:, :count]))


class _Block(nn.Module):
    def __init__(self, dim: int, num_heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.attention_norm, self.norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project, self.join = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.perceptron = nn.Sequential(nn.Linear(dim, feedforward_dim), nn.ReLU(), nn.Linear(feedforward_dim, dim))

    def forward(self, tokens: Tensor, kept: int | None = None) -> Tensor:
        rate = self.dropout if self.training else 0.0
        tokens = tokens[:, :kept] + dropped(self._attended(self.attention_norm(tokens), kept), rate)
        return tokens + dropped(self.perceptron(self.norm(tokens)), rate)

    def _attended(self, tokens: Tensor, kept: int | None) -> Tensor:
        weights, biases = (part.tensor_split([tokens.shape[2]]) for part in (self.project.weight, self.project.bias))
        query = F.linear(tokens[:, :kept], weights[0], biases[0]).unflatten(2, (self.num_heads, -1))
        key, value = F.linear(tokens, weights[1], biases[1]).unflatten(2, (2, self.num_heads, -1)).unbind(2)
        found = _attention(*(part.transpose(1, 2) for part in (query, key, value)))
        return self.join(found.transpose(1, 2).flatten(2))


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    if query.device.type != "cpu":
        return F.scaled_dot_product_attention(query, key, value)
    # On processors the backward pass of attention in bfloat16 takes nine times as long as in float32.
    query, key, value = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (query, key, value))
    with torch.autocast("cpu", enabled=False):
        if key.shape[2] > _SHORT:
            return F.scaled_dot_product_attention(query, key, value)
        return (query @ key.transpose(2, 3) * query.shape[3] ** -0.5).softmax(dim=3) @ value


def dropped(x: Tensor, rate: float) -> Tensor:
    """Returns x with a share of its numbers set to zero and the others divided by what is left.

    Torch's dropout draws a float for each number, which on a processor takes longer than the products between; here
    four numbers share one draw of 64 bits, so that the rate is a multiple of 2⁻¹⁶.

    Args:
        x: Any shape.
        rate: Share; 0 returns x itself.
    """
    if not rate:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, rate)
    words = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
    draw = words.view(torch.int16)[: x.numel()].view(x.shape)
    kept = draw >= round(rate * _WORD) - _WORD // 2
    return x * kept.to(x.dtype).div_(1 - rate)
