"""Permuted networks compute and learn the same (arXiv:2110.15288, appendix A): the experiment `figure5`, small."""

import importlib
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from experiment_modules import measure_of
from peace.config import folder
from peace.datasets.form import Form, load_as
from peace.datasets.images import load
from peace.datasets.tasks import Task
from peace.reporting.record import read_records
from peace.reporting.results import Results
from peace.zoo import architectures
from peace.zoo.optimizers import Optimizer
from peace.zoo.population import Member, Plan, Population

EXPERIMENT = "hyper_representations/figure5"
measure = measure_of(EXPERIMENT)
twins = importlib.import_module("twins")

ARCHITECTURES = {
    "mlp": {"name": "mlp", "hidden": [9, 7]},
    "cnn": {"name": "cnn", "channels": [5, 4], "kernels": [3, 2], "pools": [2, 1], "hidden": [6]},
}
RATES = {"sgd": 0.05, "momentum": 0.01, "adam": 0.003, "adamw": 0.003, "rmsprop": 0.001}


def plan(family: str, optimizer: str = "adam") -> Plan:
    shape = {**ARCHITECTURES[family], "input_shape": [1, 8, 8], "outputs": 10, "activation": "tanh"}
    return Plan(shape, optimizer, 3, 32, (3,))


def member(optimizer: str = "adam") -> Member:
    return Member(Task("digits", ()), 5, "uniform", RATES[optimizer], weight_decay=0.001)


@pytest.mark.parametrize("optimizer", Optimizer.NAMES)
@pytest.mark.parametrize("family", ARCHITECTURES)
def test_permuted_twins_stay_twins_while_they_learn(family: str, optimizer: str) -> None:
    data = load("digits")
    snapshots = list(twins.follow(plan(family, optimizer), member(optimizer), data, torch.float64))
    assert len(snapshots) == 4
    for epoch, snapshot in enumerate(snapshots):
        for classes in (snapshot.train, snapshot.test):
            assert torch.equal(classes[1], classes[0]) and torch.equal(classes[2], classes[0])
        distances = snapshot.distances()
        assert distances["a_to_a_p"] > 0.3 * float(snapshot.weights[0].norm())
        assert distances["a_to_b"] == pytest.approx(distances["a_to_a_p"], rel=1e-9)
        assert distances["a_p_to_b"] <= 1e-9 * distances["a_to_a_p"] and (epoch > 0 or distances["a_p_to_b"] == 0)
    first, last = ((snapshot.test[0] == data.y_test).float().mean() for snapshot in (snapshots[0], snapshots[-1]))
    assert last > first + 0.2


@pytest.mark.slow
@pytest.mark.skipif("PEACE_DATA" not in os.environ, reason="PEACE_DATA is not set: no real image sets here")
def test_in_double_precision_the_experiment_s_own_network_stays_a_twin_too() -> None:
    data = load_as("mnist", Form(train_per_class=200, test_per_class=100))
    given = Plan({"name": "cnn", "input_shape": [1, 28, 28], "outputs": 10, "activation": "tanh"}, "adam", 2, 32, (2,))
    *_, last = twins.follow(given, Member(Task("mnist", ()), 5, "uniform", 3e-4), data, torch.float64)
    distances = last.distances()
    assert distances["a_p_to_b"] <= 1e-9 * distances["a_to_a_p"] and torch.equal(last.test[2], last.test[0])


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_in_single_precision_they_differ_by_rounding(family: str) -> None:
    *_, last = twins.follow(plan(family), member(), load("digits"))
    distances = last.distances()
    assert 0 < distances["a_p_to_b"] <= 1e-4 * distances["a_to_a_p"]
    assert (last.test == last.test[0]).float().mean() > 0.99


def by_hand(state: dict[str, Tensor], orders: list[Tensor]) -> dict[str, Tensor]:
    """P_l W_l P_(l-1)^T and P_l b_l for every layer (equation 12), with P_0 and the last one the identity."""
    names = [name.removesuffix(".weight") for name in state if name.endswith(".weight")]
    sizes = [1 if state[f"{names[0]}.weight"].ndim > 2 else 64, *(len(state[f"{name}.weight"]) for name in names)]
    matrices = [torch.eye(sizes[0]), *(torch.eye(len(order))[order] for order in orders), torch.eye(sizes[-1])]
    moved = {}
    for place, name in enumerate(names):
        after, before = matrices[place + 1].double(), matrices[place].double()
        weight = state[f"{name}.weight"]
        taps = weight.reshape(sizes[place + 1], sizes[place], -1)
        moved[f"{name}.weight"] = torch.einsum("po,oit,qi->pqt", after, taps, before).reshape(weight.shape)
        moved[f"{name}.bias"] = after @ state[f"{name}.bias"]
    return moved


def gradients(module: nn.Sequential, state: dict[str, Tensor], images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    module.load_state_dict(state)
    module.zero_grad()
    F.cross_entropy(module(images), labels).backward()
    return {name: value.grad.clone() for name, value in module.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("family", ARCHITECTURES)
def test_both_passes_through_a_plain_module_are_equivalent(family: str) -> None:
    given, data = plan(family), load("digits")
    population = Population(given, [member()], data, torch.float64)
    element = twins.permutation(given, 5)
    orders = [order[0] for _, order in sorted(element.orders.items())]
    assert all(not torch.equal(order, torch.arange(len(order))) for order in orders)
    weights = population.start().weights
    state, moved = ({name: value[0] for name, value in population.parameters(rows).items()}
                    for rows in (weights, twins.permuted(population, element, weights)))  # fmt: skip
    expected = by_hand(state, orders)
    assert all(torch.equal(moved[name], expected[name]) for name in state)

    module = architectures.build(given.architecture).double()
    images, labels = data.x_test[:50].double(), data.y_test[:50]
    ours, theirs = gradients(module, state, images, labels), gradients(module, moved, images, labels)
    permuted = module(images)
    module.load_state_dict(state)
    torch.testing.assert_close(permuted, module(images), rtol=0, atol=1e-12)
    for name, gradient in by_hand(ours, orders).items():
        torch.testing.assert_close(theirs[name], gradient, rtol=0, atol=1e-12)
        assert gradient.abs().max() > 1e-6

    # A control: renumbering what a layer gives without what the next one takes is another network.
    first = next(iter(state))
    module.load_state_dict({**state, first: moved[first]})
    assert (module(images) - permuted).abs().max() > 1e-3


def test_an_epoch_is_a_record_and_the_table_has_a_figure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    form = Form(image_size=28, train_per_class=10, test_per_class=5)
    paths = measure.main(["seed=3", f"paths.results={tmp_path}"], "digits", form, 1)
    assert [path.relative_to(tmp_path / "records").as_posix() for path in paths] == [
        f"{EXPERIMENT}/{epoch}/seed3.json" for epoch in (0, 1)
    ]
    records = read_records(tmp_path / "records", EXPERIMENT)
    for record in records:
        value = {name: metric.value for name, metric in record.metrics.items()}
        assert value["test_accuracy/a"] == value["test_accuracy/a_p"] == value["test_accuracy/b"] <= 1
        assert value["differing/a_to_a_p"] == value["differing/a_to_b"] == 0
        assert value["distance/a_p_to_b"] < 1e-4 < 1 < value["distance/a_to_a_p"]
        assert record.scale == {"training images": 100, "test images": 50, "epochs": 1, "weights": 2464}
    files = Results(tmp_path, folder("experiments")).files([EXPERIMENT])
    points = files[tmp_path / "figures" / f"{EXPERIMENT}.csv"].decode().splitlines()
    assert len(points) == 1 + 2 * 3 * 2 and points[1].startswith('Accuracy on test images,"A, seed 3",0,')
    assert (
        b"Run at: epochs 1, test images 50, training images 100, weights 2,464."
        in (files[tmp_path / "tables" / f"{EXPERIMENT}.md"])
    )
