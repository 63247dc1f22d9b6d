import pytest
import torch

from peace.augmentations import Kinship
from peace.augmentations.checkpoint import Checkpoint
from peace.augmentations.near_duplicate import NearDuplicate
from peace.augmentations.views import partners

# id           0   1   2   3   4   5   6   7   8   9
RUNS = torch.tensor([0, 0, 0, 1, 1, 2, 2, 3, 4, 5])
RECIPES = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 2])
EPOCHS = torch.tensor([5, 10, 15, 5, 15, 5, 15, 5, 10, 5])
KINSHIP = Kinship(RUNS, RECIPES, EPOCHS)
MODELS = torch.arange(10)
DRAWS = 1000


def drawn(augmentation: Checkpoint | NearDuplicate, seed: int = 0) -> torch.Tensor:
    """Partners of every model, many times over. Shape: [DRAWS, 10]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([augmentation.partner(MODELS, KINSHIP, generator) for _ in range(DRAWS)])


def relatives(found: torch.Tensor) -> list[list[int]]:
    """The partners that each model was ever given."""
    return [column.unique().tolist() for column in found.T]


def test_a_near_duplicate_shares_recipe_and_epoch_and_never_the_run() -> None:
    found = relatives(drawn(NearDuplicate()))
    # Model 1 is alone at epoch 10; 7 and 8 share a recipe at different epochs; 9 has a recipe of its own.
    assert found == [[3, 5], [1], [4, 6], [0, 5], [2, 6], [0, 3], [2, 4], [7], [8], [9]]


def test_a_checkpoint_shares_the_run() -> None:
    assert relatives(drawn(Checkpoint())) == [[1, 2], [0, 2], [0, 1], [4], [3], [6], [5], [7], [8], [9]]


@pytest.mark.parametrize(("augmentation", "model"), [(NearDuplicate(), 0), (NearDuplicate(), 4), (Checkpoint(), 1)])
def test_the_draw_is_uniform_over_relatives(augmentation: Checkpoint | NearDuplicate, model: int) -> None:
    first, second = drawn(augmentation)[:, model].unique(return_counts=True)[1].tolist()
    # The standard deviation of the difference is 32.
    assert first + second == DRAWS and abs(first - second) < 110


@pytest.mark.parametrize("kind", [Checkpoint, NearDuplicate])
def test_the_probability_is_that_of_showing_another(kind: type[Checkpoint] | type[NearDuplicate]) -> None:
    assert torch.equal(drawn(kind(0.0)), MODELS.expand(DRAWS, -1))
    related = torch.tensor([len(found) > 1 or found != [model] for model, found in enumerate(relatives(drawn(kind())))])
    switched = (drawn(kind(0.3)) != MODELS).double().mean(0)
    assert (switched[~related] == 0).all()
    assert (switched[related] - 0.3).abs().max() < 0.06
    assert (drawn(kind(1.0))[:, related] != MODELS[related]).all()


@pytest.mark.parametrize("augmentation", [Checkpoint(), NearDuplicate()])
def test_only_the_models_asked_for_are_given_partners(augmentation: Checkpoint | NearDuplicate) -> None:
    found = augmentation.partner(torch.tensor([4, 9, 4]), KINSHIP, torch.Generator().manual_seed(0))
    assert found.shape == (3,) and found[1] == 9
    expected = {3} if isinstance(augmentation, Checkpoint) else {2, 6}
    assert {found[0].item(), found[2].item()} <= expected


def test_near_duplicate_and_checkpoint_compose_in_either_order() -> None:
    generator = torch.Generator().manual_seed(0)
    for kinds in ([NearDuplicate(), Checkpoint()], [Checkpoint(), NearDuplicate()]):
        found = torch.stack([partners(MODELS, KINSHIP, kinds, generator) for _ in range(DRAWS)])
        assert torch.equal(RECIPES[found], RECIPES.expand(DRAWS, -1))
        # Models 3 and 5 have near-duplicates at both epochs of their run, so that both kinds always find another.
        for model in (3, 5):
            changed = found[:, model]
            assert (RUNS[changed] != RUNS[model]).all() and (EPOCHS[changed] != EPOCHS[model]).all()
        assert (found[:, 9] == 9).all()
