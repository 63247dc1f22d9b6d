"""A transformer over the layers' tokens, read at its CLS token or as their mean (papers a 3.3 and b)."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from peace.aggregators import AGGREGATORS
from peace.aggregators.depth import DEPTH_DIM, depth_features
from peace.errors import InputError


@AGGREGATORS.register("transformer")
class Transformer(nn.Module):
    """Pre-norm transformer encoder over [CLS, z^1, ..., z^L], positions by depth, embedding at CLS.

    With `readout` mean there is no CLS token, and the embedding is the mean over the layers ("pooling the output
    sequence or using the embedding of a special [CLS] token", paper b).

    Args:
        input_dim: Size of a token.
        embedding_dim: D, also the width of the transformer.
        num_layers: Number of blocks.
        num_heads: Attention heads.
        dropout: Dropout rate inside the blocks.
        readout: `cls` or `mean`.

    Shape:
        [B, L, input_dim] -> [B, D].
    """

    def __init__(
        self,
        input_dim: int,
        embedding_dim: PositiveInt = 128,
        num_layers: PositiveInt = 2,
        num_heads: PositiveInt = 4,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        readout: Literal["cls", "mean"] = "cls",
    ) -> None:
        super().__init__()
        if embedding_dim % num_heads:
            got = f"embedding_dim {embedding_dim}, num_heads {num_heads}"
            raise InputError("the embedding does not divide into heads", got=got, expected="a multiple")
        self.cls = nn.Parameter(torch.randn(embedding_dim) * 0.02) if readout == "cls" else None
        self.project = nn.Sequential(nn.LayerNorm(input_dim), nn.Linear(input_dim, embedding_dim))
        self.depth = nn.Linear(DEPTH_DIM, embedding_dim)
        block = nn.TransformerEncoderLayer(
            embedding_dim, num_heads, 2 * embedding_dim, dropout, "gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, num_layers, nn.LayerNorm(embedding_dim), enable_nested_tensor=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Returns embeddings. Shape: [B, D]."""
        models, layers, _ = tokens.shape
        placed = self.project(tokens) + self.depth(depth_features(layers, tokens))
        if self.cls is None:
            return self.blocks(placed).mean(1)
        return self.blocks(torch.cat([self.cls.expand(models, 1, -1), placed], dim=1))[:, 0]
