import pytest
import torch

from peace.augmentations import Kinship
from peace.errors import InputError
from peace.training.sampler import Sampler, SamplerConfig

# Recipe 0 has two runs of three checkpoints, recipes 1 and 2 have one run of two, recipe 3 one model.
KINSHIP = Kinship(
    runs=torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4]),
    recipes=torch.tensor([0, 0, 0, 0, 0, 0, 1, 1, 2, 2, 3]),
    epochs=torch.tensor([5, 10, 15, 5, 10, 15, 10, 15, 10, 15, 15]),
)
LARGE = Kinship(torch.arange(600), torch.arange(600) // 5, torch.full((600,), 15))
STEPS = range(3000)


@pytest.mark.parametrize(("distinct", "groups"), [("recipe", KINSHIP.recipes), ("run", KINSHIP.runs)])
@pytest.mark.parametrize("batch_size", [1, 3, 4, 5, 100])
def test_no_two_models_of_a_batch_are_related(distinct: str, groups: torch.Tensor, batch_size: int) -> None:
    sampler = Sampler(KINSHIP, SamplerConfig(batch_size, distinct), seed=0)
    for step in range(200):
        batch = sampler.batch(step)
        assert len(groups[batch].unique()) == len(batch) == min(batch_size, len(groups.unique()))
        assert (batch.diff() > 0).all() and batch.dtype == torch.int64


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    first, again, other = (Sampler(LARGE, SamplerConfig(32), seed) for seed in (3, 3, 4))
    expected = [first.batch(step) for step in range(20)]
    assert all(torch.equal(again.batch(step), expected[step]) for step in reversed(range(20)))
    assert len({tuple(batch.tolist()) for batch in expected}) == 20
    assert not any(torch.equal(other.batch(step), expected[step]) for step in range(20))
    torch.manual_seed(0)
    assert torch.equal(first.batch(7), expected[7])


def test_the_draw_is_uniform_within_a_recipe() -> None:
    sampler = Sampler(KINSHIP, SamplerConfig(4), seed=0)
    counts = torch.cat([sampler.batch(step) for step in STEPS]).bincount(minlength=11).double() / len(STEPS)
    # The standard deviation of one share is at most 0.009.
    expected = torch.tensor([1 / 6] * 6 + [1 / 2] * 4 + [1], dtype=torch.float64)
    assert (counts - expected).abs().max() < 0.035


def test_recipes_are_drawn_uniformly_whatever_their_size() -> None:
    sampler = Sampler(KINSHIP, SamplerConfig(2), seed=1)
    drawn = KINSHIP.recipes[torch.cat([sampler.batch(step) for step in STEPS])].bincount().double() / len(STEPS)
    assert (drawn - 0.5).abs().max() < 0.035


def test_what_is_distinct_must_be_known() -> None:
    with pytest.raises(InputError, match=r"no such sampler\.distinct: got recipes, expected recipe or run"):
        Sampler(KINSHIP, SamplerConfig(4, "recipes"), seed=0)
