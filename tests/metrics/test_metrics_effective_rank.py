import math

import pytest
import torch
from scipy.stats import entropy

from peace.errors import InputError
from peace.metrics.effective_rank import effective_rank


def test_an_even_spread_has_full_rank() -> None:
    corners = torch.cat([torch.eye(5), -torch.eye(5)])
    assert effective_rank(corners) == pytest.approx(5.0)


def test_a_line_has_rank_one_and_a_point_none() -> None:
    line = torch.arange(6.0)[:, None] * torch.tensor([[1.0, 2.0, 3.0]]) + 7
    assert effective_rank(line) == pytest.approx(1.0)
    assert effective_rank(torch.full((6, 3), 0.1)) == 0.0
    assert effective_rank(torch.zeros(6, 3)) == 0.0


def test_the_value_follows_from_the_singular_values() -> None:
    # Centred already, with singular values sqrt(2) * (3, 1).
    vectors = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert effective_rank(vectors) == pytest.approx(math.exp(entropy([0.75, 0.25])))


def test_shift_scale_and_rotation_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(20, 4, generator=generator, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    assert effective_rank(vectors @ rotation * 9 + 2) == pytest.approx(effective_rank(vectors))


@pytest.mark.parametrize("vectors", [torch.ones(1, 3), torch.zeros(0, 3), torch.full((3, 3), float("nan"))])
def test_too_few_or_infinite_vectors_are_refused(vectors: torch.Tensor) -> None:
    with pytest.raises(InputError, match="no effective rank"):
        effective_rank(vectors)
