import math

import pytest
import torch

from peace import seeding
from peace.encoders.positions import POSITION_DIM, grid_positions

LIKE = torch.zeros(0, dtype=torch.float64)
PINNED = [-0.11646183357455742, -0.12361239537463582, -0.04540530057660769, 0.018573521737804966]
"""Features 0, 63, 64 and 127 of cell (1, 1): a change of the waves would spoil every embedder trained before."""
GRIDS = [(), (1,), (7,), (3, 4), (2, 3, 4), (1, 28, 28), (3, 32, 32)]


@pytest.mark.parametrize("shape", GRIDS)
def test_every_row_has_norm_one(shape: tuple[int, ...]) -> None:
    found = grid_positions(shape, LIKE)
    assert found.shape == (math.prod(shape), POSITION_DIM)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(len(found), dtype=torch.float64))


@pytest.mark.parametrize("shape", GRIDS)
def test_distinct_cells_are_told_apart(shape: tuple[int, ...]) -> None:
    found = grid_positions(shape, LIKE)
    if len(found) > 1:
        assert torch.pdist(found).min() > 0.3


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4)])
def test_positions_are_the_plane_waves_of_the_formula(shape: tuple[int, ...]) -> None:
    draws = seeding.normal(seeding.keys([0], "plane waves"), 64, 3, dtype=torch.float64)[0].tolist()
    shares = seeding.uniform(seeding.keys([0], "wavelengths"), 64, 1, dtype=torch.float64)[0, :, 0].tolist()
    height, width = ([1, 1, *shape])[-2:]
    found = grid_positions(shape, LIKE).tolist()
    for cell, row in enumerate(found):
        x = (cell // (height * width), cell // width % height, cell % width)
        for wave, (direction, share) in enumerate(zip(draws, shares, strict=True)):
            wavelength = math.exp(math.log(2) + share * (math.log(64) - math.log(2)))
            length = math.sqrt(sum(d * d for d in direction))
            angle = 2 * math.pi / wavelength * sum(a * d for a, d in zip(x, direction, strict=True)) / length
            assert row[wave] == pytest.approx(math.sin(angle) / 8, abs=1e-12)
            assert row[64 + wave] == pytest.approx(math.cos(angle) / 8, abs=1e-12)


def test_shorter_shapes_are_counted_from_the_last() -> None:
    assert torch.equal(grid_positions((4,), LIKE), grid_positions((1, 1, 4), LIKE))
    assert torch.equal(grid_positions((3, 4), LIKE), grid_positions((1, 3, 4), LIKE))
    assert torch.equal(grid_positions((), LIKE), grid_positions((1,), LIKE))
    assert grid_positions((), LIKE)[0].tolist() == [0.0] * 64 + [0.125] * 64


def test_likeness_falls_off_with_distance_in_the_plane() -> None:
    found = grid_positions((1, 21, 21), LIKE).view(21, 21, -1)
    likeness = found @ found[10, 10]
    for row, column in ((0, 1), (1, 0), (1, 1), (1, -1)):
        line = [likeness[10 + step * row, 10 + step * column].item() for step in range(4)]
        assert line[0] == pytest.approx(1.0) and line == sorted(line, reverse=True)


def test_features_are_pinned_and_take_the_type_asked_for() -> None:
    found = grid_positions((2, 3), torch.zeros(0))
    assert found.dtype == torch.float32 and torch.equal(found, grid_positions((2, 3), LIKE).float())
    assert grid_positions((2, 3), LIKE)[4, [0, 63, 64, 127]].tolist() == pytest.approx(PINNED, abs=1e-12)
