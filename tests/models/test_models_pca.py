"""Principal components against scikit-learn's on the same weights."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, KernelPCA
from sklearn.metrics import r2_score
from torch import Tensor

from peace.errors import InputError
from peace.graph.build import from_architecture
from peace.graph.stack import Stack
from peace.models.baselines import BASELINES, flattened
from peace.models.pca import Pca
from peace.models.saving import load_producer, save_producer

MLP = json.dumps({"name": "mlp", "input_shape": [1, 2, 2], "outputs": 3, "activation": "tanh", "hidden": [3]})
WEIGHTS = 4 * 3 + 3 + 3 * 3 + 3


def stack(models: int, seed: int = 0) -> Stack:
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(WEIGHTS, WEIGHTS, generator=torch.Generator().manual_seed(99)) / 5
    rows = torch.randn(models, WEIGHTS, generator=draw) @ mixing + 0.3
    parts = rows.split([12, 3, 9, 3], dim=1)
    shapes = {"1.weight": (3, 4), "1.bias": (3,), "3.weight": (3, 3), "3.bias": (3,)}
    tensors = {name: part.reshape(models, *shape) for part, (name, shape) in zip(parts, shapes.items(), strict=True)}
    return Stack.of(from_architecture(MLP), tensors)


def fitted(train: Stack, **options: Any) -> Pca:
    baseline = BASELINES.build({"name": "pca", **options})
    baseline.fit([train])
    return baseline


def up_to_sign(found: Tensor, expected: np.ndarray) -> np.ndarray:
    return found.numpy() * np.sign((found.numpy() * expected).sum(axis=0))


def test_linear_components_are_scikit_learns() -> None:
    train, new = stack(80), stack(30, seed=1)
    baseline, oracle = fitted(train, embedding_dim=6), PCA(6, svd_solver="full").fit(flattened(train).double())
    for part in (train, new):
        expected = oracle.transform(flattened(part).double())
        np.testing.assert_allclose(up_to_sign(baseline.embed([part]), expected), expected, atol=1e-5)
    weights = oracle.inverse_transform(oracle.transform(flattened(new).double()))
    np.testing.assert_allclose(baseline.inverse(baseline.embed([new])), weights, atol=1e-5)
    assert baseline.invertible


def test_all_components_give_the_weights_back() -> None:
    train = stack(80)
    baseline = fitted(train, embedding_dim=100)
    vectors = baseline.embed([train])
    assert vectors.shape == (80, WEIGHTS)
    torch.testing.assert_close(baseline.inverse(vectors).float(), flattened(train), rtol=1e-4, atol=1e-5)
    few = fitted(train.select(range(5)), embedding_dim=100)
    assert few.embed([train]).shape == (80, 5)


@pytest.mark.parametrize(
    ("options", "oracle"),
    [
        ({"kernel": "cosine"}, {"kernel": "cosine"}),
        ({"kernel": "rbf"}, {"kernel": "rbf", "gamma": 1 / WEIGHTS}),
        ({"kernel": "rbf", "gamma": 0.5}, {"kernel": "rbf", "gamma": 0.5}),
    ],
)
def test_kernel_components_are_scikit_learns(options: dict[str, Any], oracle: dict[str, Any]) -> None:
    train, new = stack(60), stack(40, seed=1)
    baseline = fitted(train, embedding_dim=7, **options)
    expected = KernelPCA(7, eigen_solver="dense", **oracle).fit(flattened(train).double())
    for part in (train, new):
        found = expected.transform(flattened(part).double())
        np.testing.assert_allclose(up_to_sign(baseline.embed([part]), found), found, atol=1e-5)
    assert not baseline.invertible


def test_landmarks_are_some_of_the_training_models() -> None:
    train = stack(60)
    baseline = fitted(train, kernel="rbf", landmarks=20, gamma="median")
    rows = flattened(train).double()
    assert baseline.landmarks.shape == (20, WEIGHTS) and baseline.embed([train]).shape == (60, 20)
    places = (baseline.landmarks[:, None] == rows).all(dim=2).float().argmax(dim=1)
    assert torch.equal(rows[places], baseline.landmarks) and places.diff().min() > 0 and places.max() > 30
    squared = torch.cdist(baseline.landmarks, baseline.landmarks).square()
    middle = np.median(squared[tuple(torch.triu_indices(20, 20, 1))])
    assert baseline.gamma.item() == pytest.approx(1 / middle, rel=0.05)
    expected = KernelPCA(20, kernel="rbf", gamma=baseline.gamma.item(), eigen_solver="dense").fit(baseline.landmarks)
    found = expected.transform(rows)[:, :10]
    np.testing.assert_allclose(up_to_sign(baseline.embed([train])[:, :10], found), found, atol=1e-5)


def test_gamma_may_be_a_whole_number_and_models_may_not_all_be_the_same() -> None:
    whole, real = Pca(kernel="rbf", gamma=1), Pca(kernel="rbf", gamma=1.0)
    for baseline in (whole, real):
        baseline.fit([stack(20)])
    assert torch.equal(whole.embed([stack(20)]), real.embed([stack(20)]))
    with pytest.raises(InputError, match="all training models are the same"):
        fitted(stack(2).select([0, 0, 0]), kernel="rbf", gamma="median")


@pytest.mark.parametrize("options", [{}, {"kernel": "cosine", "landmarks": 9}, {"kernel": "rbf", "gamma": "median"}])
def test_a_saved_one_is_the_same(options: dict[str, Any], tmp_path: Path) -> None:
    train, new = stack(30), stack(5, seed=2)
    baseline = fitted(train, embedding_dim=4, **options)
    identity = save_producer(tmp_path, baseline, {"producer": {"name": "pca", "embedding_dim": 4, **options}}, {})
    loaded, found = load_producer(tmp_path)
    assert found == identity and torch.equal(loaded.embed([new]), baseline.embed([new]))


def test_more_components_reconstruct_more() -> None:
    train, new = stack(80), stack(40, seed=1)
    rows = flattened(new).double()
    scores = [r2_score(rows, model.inverse(model.embed([new])), multioutput="variance_weighted")
              for model in (fitted(train, embedding_dim=dim) for dim in (2, 8, 20))]  # fmt: skip
    assert scores == sorted(scores) and scores[-1] > 0.95 > 0.5 > scores[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"kernel": "sigmoid"}, "key 'kernel'"), ({"gamma": -1.0}, "key 'gamma'"), ({"landmarks": 0}, "key 'landmarks'")],
)
def test_arguments_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        BASELINES.build({"name": "pca", **options})
