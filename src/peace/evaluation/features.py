"""Raw embeddings as the features of a linear probe."""

from collections.abc import Iterator

import torch
from torch import Tensor

_ROWS = 2**13
_ROUNDING = 1e-6
"""Share of a feature's mean below which its standard deviation is rounding: vectors are in single precision."""


class Features:
    """Vectors standardised by the mean and standard deviation of the training models, a part of the rows at a time.

    What the training models all have alike is 0. Only a part is ever in double precision, so 50,000 vectors of 2,464
    entries take no more memory than they do as they are.

    Args:
        raw: The vectors. Shape: [G, D].
        mean: Of the training models. Shape: [D] float64.
        spread: Their standard deviation, infinite where it is none. Shape: [D] float64.
    """

    def __init__(self, raw: Tensor, mean: Tensor, spread: Tensor) -> None:
        self.raw, self.mean, self.spread = raw, mean, spread

    @classmethod
    def of_training(cls, raw: Tensor) -> "Features":
        """Returns the features of the training models, by whose mean and standard deviation they are standardised."""
        mean = sum(part.double().sum(dim=0) for part in raw.split(_ROWS)) / len(raw)
        variance = sum((part.double() - mean).square().sum(dim=0) for part in raw.split(_ROWS)) / len(raw)
        spread = variance.sqrt()
        return cls(raw, mean, spread.where(spread > _ROUNDING * mean.abs(), torch.inf))

    def like(self, raw: Tensor) -> "Features":
        """Returns the features of other models, standardised as these."""
        return Features(raw, self.mean, self.spread)

    def __len__(self) -> int:
        """Returns the number of models."""
        return len(self.raw)

    def parts(self) -> Iterator[Tensor]:
        """Yields the features of some models after the other. Shape of each: [g, D] float64."""
        for part in self.raw.split(_ROWS):
            yield (part - self.mean) / self.spread

    def __matmul__(self, weights: Tensor) -> Tensor:
        """Returns the products with some weights. Shape: [D, M] to [G, M] float64."""
        return torch.cat([part @ weights for part in self.parts()])
