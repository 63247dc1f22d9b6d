"""Networks crossed with others: every weight of network g of the pool is g, and of a view of it 100 + g."""

import pytest
import torch
from test_augmentations_contract import parts, same, stack
from test_augmentations_transforms import stack as cnn
from torch import Tensor

from peace.augmentations import Kinship
from peace.augmentations.crossover import Crossover
from peace.graph.sequences import vector
from peace.graph.stack import Stack

POOL = 12
EPOCHS = torch.tensor([5, 10, 15] * 4)
STACKS = {"mlp": lambda: stack("mlp", POOL), "cnn": lambda: cnn().select(slice(POOL))}
KINSHIP = Kinship(torch.arange(POOL), torch.arange(POOL), EPOCHS)
PLACES = torch.arange(POOL).repeat(500)
OWN = 100 + PLACES[:, None]


def pool(name: str = "mlp") -> Stack:
    def numbered(tensor: Tensor) -> Tensor:
        return torch.arange(float(POOL)).view(-1, *[1] * (tensor.ndim - 1)).expand_as(tensor)

    return STACKS[name]().map(numbered)


def view(name: str = "mlp", places: Tensor = PLACES) -> Stack:
    return pool(name).select(places).map(lambda tensor: 100 + tensor)


def crossed(probability: float = 1.0, name: str = "mlp", seed: int = 0) -> list[Stack]:
    generator = torch.Generator().manual_seed(seed)
    return list(Crossover(probability).mix([view(name)] * 2, PLACES, pool(name), KINSHIP, generator))


def test_both_views_have_the_same_neurons_of_the_same_mates() -> None:
    first, second = crossed()
    assert same(first, second)
    assert same(first, crossed()[0]) and not same(first, crossed(seed=1)[0]), "a function of the generator"


@pytest.mark.parametrize("name", ["mlp", "cnn"])
def test_a_neuron_comes_whole_and_the_rest_is_left(name: str) -> None:
    given, found = view(name), crossed(name=name)[0]
    assert found.graph == given.graph
    # Whose each neuron is.
    donors = {axis: found.biases[axis - 1] for axis in given.graph.hidden}
    assert all((donor == OWN).any() and (donor != OWN).any() for donor in donors.values())
    for layer, weight in enumerate(found.weights):
        before, behind = donors.get(layer, OWN), donors.get(layer + 1, OWN)
        expected = torch.where((behind != OWN)[:, :, None], behind[:, :, None], before[:, None, :])
        assert torch.equal(weight, expected[..., None].expand_as(weight)), "a weight comes with the later neuron"
    assert torch.equal(found.biases[-1], given.biases[-1]), "outputs are no neurons to exchange"


def test_each_neuron_has_a_mate_of_its_own_uniform_among_the_same_epoch() -> None:
    mates = torch.cat(crossed()[0].biases[:-1], dim=1).long()
    exchanged = mates != OWN
    assert torch.equal(EPOCHS[mates[exchanged]], EPOCHS[PLACES][:, None].expand_as(mates)[exchanged])
    # 33,000 neurons exchanged, of each of 12 networks 2,750, with a standard deviation of 50.
    counts = torch.bincount(mates[exchanged], minlength=POOL).double()
    assert (counts / counts.mean() - 1).abs().max() < 0.1
    first, second = mates[exchanged[:, :2].all(1), :2].T
    assert (first == second).double().mean().item() == pytest.approx(1 / 4, abs=0.05), "four networks an epoch"


def shares_of(found: Stack) -> Tensor:
    """The share of neurons that is exchanged of each network."""
    return (torch.cat(found.biases[:-1], dim=1) != OWN).double().mean(1)


def test_the_share_of_neurons_is_uniform_for_each_network_or_as_given() -> None:
    shares = shares_of(crossed()[0])
    assert shares.mean().item() == pytest.approx(0.5, abs=0.02)
    # Of 11 neurons 0 to 11 are exchanged, each number with probability 1 / 12.
    assert torch.allclose(torch.bincount((11 * shares).round().long()) / len(shares), torch.tensor(1 / 12), atol=0.02)
    for share in (0.3, 1.0):
        (found,) = Crossover(1.0, share).mix([view()], PLACES, pool(), KINSHIP, torch.Generator().manual_seed(0))
        assert shares_of(found).mean().item() == pytest.approx(share, abs=0.02)


def test_the_probability_is_that_of_crossing_at_all() -> None:
    assert same(crossed(0.0)[0], view())
    touched, always = ((vector(crossed(p)[0]) != OWN).any(1).double().mean().item() for p in (0.3, 1.0))
    assert touched / always == pytest.approx(0.3, abs=0.03)


def test_views_of_different_models_are_given_the_same_neurons() -> None:
    other = (PLACES + 3) % POOL
    generator = torch.Generator().manual_seed(0)
    first, second = map(vector, Crossover(1.0).mix([view(), view(places=other)], PLACES, pool(), KINSHIP, generator))
    exchanged = first < 100
    assert torch.equal(exchanged, second < 100) and torch.equal(first[exchanged], second[exchanged])


def test_what_is_given_stays_and_types_are_kept() -> None:
    given, places = stack("mlp", POOL).to(torch.float64), torch.arange(POOL)
    views = [given.select(places)] * 2
    found = Crossover(1.0).mix(views, places, given, KINSHIP, torch.Generator().manual_seed(0))
    assert same(given, stack("mlp", POOL).to(torch.float64)) and same(views[0], given)
    assert not same(found[0], given) and {tensor.dtype for tensor in parts(found[0])} == {torch.float64}
