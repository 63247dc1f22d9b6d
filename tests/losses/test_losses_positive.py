import math

import pytest
import torch

from peace.losses.positive import Positive
from random_pairs import pairs


def test_it_is_the_mean_cosine_and_the_logarithm_of_the_temperature() -> None:
    first = torch.tensor([[3.0, 4.0], [1.0, 0.0]], dtype=torch.float64)
    second = torch.tensor([[4.0, 3.0], [0.0, -2.0]], dtype=torch.float64)
    assert Positive(0.2)(pairs(first, second)).item() == pytest.approx(math.log(0.2) - (24 / 25 + 0) / 2, abs=1e-12)


def test_nothing_keeps_all_models_from_one_point() -> None:
    same = torch.ones(5, 3, dtype=torch.float64)
    assert Positive(0.1)(pairs(same, 2 * same)).item() == pytest.approx(math.log(0.1) - 1, abs=1e-12)
