"""The networks whose symmetries are derived: each a module with random weights and an example input."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import timm
import torch
from modules import Decoder, Encoder, Recurrent, Siren, UNet, autoencoder
from torch import Tensor, nn


@dataclass(frozen=True)
class Network:
    """A network by name.

    Attributes:
        build: Makes the module, on torch's default device (`with torch.device("meta")` takes no memory).
        shape: The shape of one example, without the batch.
        kind: `convolution` and `transformer` are held to a share of permutable channels; `other` is not.
        words: For networks that read tokens, how many of them there are; else 0, and the input is floating.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    kind: Literal["convolution", "transformer", "other"]
    words: int = 0

    def example(self, generator: torch.Generator, dtype: torch.dtype = torch.float32, batch: int = 1) -> Tensor:
        """Returns a random input. Shape: [batch, *shape]; int64 for tokens, else `dtype`."""
        if self.words:
            return torch.randint(self.words, (batch, *self.shape), generator=generator)
        return torch.randn(batch, *self.shape, generator=generator, dtype=torch.float64).to(dtype)


def from_timm(name: str, kind: Literal["convolution", "transformer"], size: int = 224, **arguments: object) -> Network:
    """Returns a network of timm without its pretrained weights.

    Args:
        name: timm's name of the architecture.
        kind: As for `Network`.
        size: Height and width of the image that it reads.
        **arguments: What `timm.create_model` takes besides, such as `depth`.
    """
    return Network(partial(timm.create_model, name, pretrained=False, **arguments), (3, size, size), kind)


CONVOLUTIONS = ("resnet18", "resnet50", "vgg11_bn", "mobilenetv3_small_050", "efficientnet_b0", "regnety_002",
                "densenet121", "convnext_atto")  # fmt: skip
TRANSFORMERS = ("vit_tiny_patch16_224", "deit3_small_patch16_224", "mixer_s32_224", "swin_tiny_patch4_window7_224")

SMALL = {
    "encoder_norm_first": Network(partial(Encoder, True), (10, 24), "transformer"),
    "encoder_norm_last": Network(partial(Encoder, False), (10, 24), "transformer"),
    "decoder": Network(Decoder, (12,), "transformer", words=97),
    "lstm": Network(partial(Recurrent, nn.LSTM, 2), (9,), "other", words=50),
    "gru": Network(partial(Recurrent, nn.GRU, 1), (9,), "other", words=50),
    "unet": Network(UNet, (3, 32, 32), "convolution"),
    "autoencoder": Network(autoencoder, (3, 16, 16), "convolution"),
    "siren": Network(Siren, (2,), "other"),
}
NETWORKS = {
    **{name: from_timm(name, "convolution") for name in CONVOLUTIONS},
    **{name: from_timm(name, "transformer") for name in TRANSFORMERS},
    **SMALL,
}
