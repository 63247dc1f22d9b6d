"""Small modules of families that timm does not have: text, sequences, images to images, coordinates."""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Encoder(nn.Module):
    """A torch `TransformerEncoder` between a linear layer over patches and a linear head over their mean.

    Args:
        norm_first: Whether each block normalises what it reads instead of what it writes.
        activation: `relu` or `gelu`.
    """

    def __init__(self, norm_first: bool, activation: str = "gelu") -> None:
        super().__init__()
        self.embed = nn.Linear(24, 64)
        self.position = nn.Parameter(torch.randn(1, 10, 64))
        layer = nn.TransformerEncoderLayer(64, 4, 128, activation=activation, batch_first=True, norm_first=norm_first)
        norm = nn.LayerNorm(64) if norm_first else None
        self.encoder = nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)
        self.head = nn.Linear(64, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Returns scores. Shape: [B, 10, 24] -> [B, 5]."""
        return self.head(self.encoder(self.embed(x) + self.position).mean(1))


class _DecoderBlock(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.project = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.widen, self.narrow = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, dim = x.shape
        parts = self.qkv(self.norm1(x)).split(dim, 2)
        q, k, v = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(mixed.transpose(1, 2).reshape(batch, length, dim))
        return x + self.narrow(F.gelu(self.widen(self.norm2(x)), approximate="tanh"))


class Decoder(nn.Module):
    """A decoder in the manner of GPT-2: fused q, k and v with biases, and a head tied to the token embedding."""

    def __init__(self, dim: int = 64, heads: int = 4, blocks: int = 3, words: int = 97, length: int = 16) -> None:
        super().__init__()
        self.token, self.position = nn.Embedding(words, dim), nn.Embedding(length, dim)
        self.blocks = nn.ModuleList(_DecoderBlock(dim, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, words, bias=False)
        self.head.weight = self.token.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns the scores of each next token. Shape: [B, T] int64 -> [B, T, words]."""
        x = self.token(tokens) + self.position(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Recurrent(nn.Module):
    """A classifier of token sequences: embedding, recurrent layers, a linear head on the last state.

    Args:
        cell: `nn.LSTM` or `nn.GRU`.
        layers: How many of them lie on each other.
    """

    def __init__(self, cell: type[nn.LSTM | nn.GRU], layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 24)
        self.cell = cell(24, 32, layers, batch_first=True)
        self.head = nn.Linear(32, 5)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns scores. Shape: [B, T] int64 -> [B, 5]."""
        states, _ = self.cell(self.embed(tokens))
        return self.head(states[:, -1])


def _convolutions(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
        nn.Conv2d(after, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    """A U-Net: three resolutions, transposed convolutions upwards, skips by concatenation."""

    def __init__(self, channels: tuple[int, int, int] = (16, 32, 64)) -> None:
        super().__init__()
        narrow, middle, wide = channels
        self.down = nn.ModuleList([_convolutions(3, narrow), _convolutions(narrow, middle)])
        self.bottom = _convolutions(middle, wide)
        self.up = nn.ModuleList([nn.ConvTranspose2d(wide, middle, 2, 2), nn.ConvTranspose2d(middle, narrow, 2, 2)])
        self.merge = nn.ModuleList([_convolutions(2 * middle, middle), _convolutions(2 * narrow, narrow)])
        self.head = nn.Conv2d(narrow, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Returns a map of scores. Shape: [B, 3, H, W] -> [B, 2, H, W]."""
        skips = []
        for block in self.down:
            x = block(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.bottom(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips), strict=True):
            x = merge(torch.cat([skip, up(x)], 1))
        return self.head(x)


def autoencoder() -> nn.Sequential:
    """Returns an autoencoder of images 3x16x16 with a linear code of 20 numbers."""
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(512, 20),
        nn.Linear(20, 512), nn.ReLU(), nn.Unflatten(1, (32, 4, 4)), nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Sigmoid(),
    )  # fmt: skip


class Siren(nn.Module):
    """A network of sines from coordinates to colours, the first of them with a frequency of 30."""

    def __init__(self, width: int = 64, layers: int = 3) -> None:
        super().__init__()
        widths = [2] + [width] * layers
        self.hidden = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.head = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Returns colours. Shape: [B, 2] -> [B, 3]."""
        first, *others = self.hidden
        x = torch.sin(30.0 * first(x))
        for layer in others:
            x = torch.sin(layer(x))
        return self.head(x)
