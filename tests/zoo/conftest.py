"""What the tests of zoos share: one thread, as each shard of a zoo has, and a data set that trains in no time."""

import pytest
import torch

from peace.datasets.images import ImageData


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny() -> ImageData:
    """59 training and 31 test images of 6 × 6 noisy pixels, one blob a class, five classes of uneven sizes."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(5, 1, 6, 6, generator=generator)

    def part(count: int) -> tuple[torch.Tensor, torch.Tensor]:
        labels = torch.multinomial(torch.tensor([0.3, 0.2, 0.2, 0.2, 0.1]), count, True, generator=generator)
        return centres[labels] + 0.7 * torch.randn(count, 1, 6, 6, generator=generator), labels

    return ImageData("tiny", *part(59), *part(31), tuple("abcde"))
