"""WeightWatcher's own summary of the original modules, and what is said where it cannot be had."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from peace.errors import InputError
from peace.graph.build import from_architecture
from peace.graph.stack import Stack
from peace.models import weight_watcher
from peace.models.baselines import BASELINES
from peace.models.saving import load_producer, save_producer
from peace.models.weight_watcher import METRICS
from peace.zoo.architectures import build
from peace.zoo.initialisation import initialise

CNN = {"name": "cnn", "input_shape": [1, 28, 28], "outputs": 10, "activation": "tanh", "channels": [8, 6, 4],
       "kernels": [5, 5, 2], "pools": [2, 2, 1], "hidden": [20]}  # fmt: skip
TINY = {"name": "mlp", "input_shape": [1, 2, 2], "outputs": 3, "activation": "tanh", "hidden": [5]}


def tensors(node: dict[str, Any], models: int) -> dict[str, torch.Tensor]:
    return initialise(build(node), "kaiming_uniform", torch.arange(models))


def stack(node: dict[str, Any], models: int = 4) -> Stack:
    return Stack.of(from_architecture(json.dumps(node)), tensors(node, models))


def test_features_are_the_summary_of_the_module_itself() -> None:
    ww = pytest.importorskip("weightwatcher")
    found = weight_watcher.WeightWatcher().features(stack(CNN))
    for place, row in enumerate(found):
        module = build(CNN)
        module.load_state_dict({name: tensor[place] for name, tensor in tensors(CNN, 4).items()})
        watcher = ww.WeightWatcher(model=module)
        summary = watcher.get_summary(watcher.analyze())
        assert row.tolist() == pytest.approx([summary[name] for name in METRICS], rel=1e-5)


def test_a_layer_without_a_power_law_is_left_out_of_the_exponents() -> None:
    """Of singular values this small the package fits none, and has -1 for the exponent."""
    ww = pytest.importorskip("weightwatcher")
    whole = stack(CNN, 1)
    module = build(CNN)
    module.load_state_dict({name: tensor[0] for name, tensor in tensors(CNN, 1).items()})
    layers = ww.WeightWatcher(model=module).analyze()
    small = replace(whole, weights=(whole.weights[0] * 1e-3, *whole.weights[1:]))
    found = weight_watcher.WeightWatcher().features(small)[0]
    for name, value in zip(METRICS[:3], found, strict=False):
        assert float(value) == pytest.approx(layers[name][1:].mean(), rel=1e-5)
    assert float(found[3]) < layers["log_norm"].mean()
    nothing = weight_watcher.WeightWatcher().features(whole.map(lambda tensor: tensor * 1e-3))[0]
    assert nothing[:3].isnan().all() and nothing[3:].isfinite().all()


def test_a_saved_one_is_the_same(tmp_path: Path) -> None:
    pytest.importorskip("weightwatcher")
    baseline = BASELINES.build({"name": "weight_watcher"})
    baseline.fit([stack(CNN)])
    vectors = baseline.embed([stack(CNN)])
    assert vectors.shape == (4, 7) and torch.equal(baseline.embed([stack(CNN, 1)])[0], vectors[0])
    torch.testing.assert_close(vectors.mean(0), torch.zeros(7), atol=1e-4, rtol=0)
    save_producer(tmp_path, baseline, {"producer": {"name": "weight_watcher"}}, {})
    assert torch.equal(load_producer(tmp_path)[0].embed([stack(CNN)]), vectors)


@pytest.mark.parametrize("missing", [float("nan"), float("-inf")])
def test_vectors_are_standardised_and_missing_numbers_are_the_mean(
    missing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = iter([{name: float(place) for name in METRICS} | {"alpha": alpha}
                 for place, alpha in enumerate([1.0, missing, 3.0, 5.0] * 2)])  # fmt: skip
    monkeypatch.setattr(weight_watcher, "find_spec", lambda name: True)
    monkeypatch.setattr(weight_watcher, "_summary", lambda module, min_evals: next(rows))
    baseline = BASELINES.build({"name": "weight_watcher"})
    baseline.fit([stack(TINY)])
    assert baseline.mean[0] == 3 and int(baseline.width) == 6
    vectors = baseline.embed([stack(TINY)])
    assert vectors[:, 6].tolist() == pytest.approx([0, 1 / 6, 0, 0])
    assert vectors[1, 0] == 0 and vectors[2, 0] == 0 and vectors[3, 0] == pytest.approx(2 / (8 / 3) ** 0.5)


def test_an_architecture_without_a_layer_to_read_is_one_sentence() -> None:
    pytest.importorskip("weightwatcher")
    with pytest.raises(InputError, match=r"reads no layer in producer 'weight_watcher': got weights of 5x4x1, 3x5x1; "):
        BASELINES.build({"name": "weight_watcher"}).fit([stack(TINY)])
    assert weight_watcher.WeightWatcher(min_evals=2).features(stack(TINY)).shape == (4, 6)


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_watcher, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"weightwatcher is not installed.*run `pip install -e \.\[weightwatcher\]`"):
        BASELINES.build({"name": "weight_watcher"}).fit([stack(TINY)])
