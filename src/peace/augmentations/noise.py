"""Small Gaussian noise on every weight."""

import torch
from pydantic import NonNegativeFloat
from torch import Tensor

from peace.augmentations import AUGMENTATIONS, Transform
from peace.graph.stack import Stack


@AUGMENTATIONS.register("noise")
class Noise(Transform):
    """Adds N(0, (std · rms)²) to each tensor, rms being its own root mean square in each model; or N(0, std²).

    Args:
        std: Standard deviation.
        relative: Whether it is in units of the tensor's root mean square; paper c adds the same to all weights.
    """

    def __init__(self, std: NonNegativeFloat = 0.05, relative: bool = True) -> None:
        self.std, self.relative = std, relative

    def transform(self, stack: Stack, generator: torch.Generator) -> Stack:
        """Returns a noisy copy."""

        def noisy(tensor: Tensor) -> Tensor:
            draw = torch.randn(tensor.shape, generator=generator).to(tensor)
            if not self.relative:
                return tensor + self.std * draw
            rms = tensor.flatten(1).square().mean(1).sqrt().view(-1, *[1] * (tensor.ndim - 1))
            return tensor + self.std * rms * draw

        return stack.map(noisy)
