"""Probes against scikit-learn's on the same features, and what a table must have for them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import kendalltau
from sklearn.linear_model import LogisticRegression
from sklearn.linear_model import Ridge as SklearnRidge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError
from peace.evaluation import features
from peace.evaluation.features import Features
from peace.evaluation.properties import probe
from peace.evaluation.ridge import ALPHAS, fit_ridge
from peace.evaluation.softmax import fit_softmax

RUNS, EPOCHS, DIMENSION = 30, 6, 8


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def table_of(seed: int = 0, runs: int = RUNS, dimension: int = DIMENSION, **columns: Any) -> EmbeddingTable:
    """Models whose vectors tell their epoch, whose rate is that of their run, and whose class is in a direction."""
    vectors = normal(runs, EPOCHS, dimension, seed=seed) * torch.arange(1, dimension + 1)
    run, epoch = (place.flatten() for place in torch.meshgrid(torch.arange(runs), torch.arange(EPOCHS), indexing="ij"))
    vectors[..., 0] += 5 * epoch.view(runs, EPOCHS) + 20
    flat = vectors.flatten(0, 1)
    rows = pd.DataFrame({
        "id": [f"{seed}-{number}" for number in range(runs * EPOCHS)],
        "run_id": [f"{seed}-r{number}" for number in run.tolist()],
        "task": "t", "architecture": "mlp",
        "split": np.array(["train", "val", "test"])[np.minimum((run % 5).numpy() // 3 + (run % 5 == 4).numpy(), 2)],
        "epoch": epoch.tolist(),
        "learning_rate": (10.0 ** -(1 + run % 4).double()).tolist(),
        "dropout": 0.0,
        "activation": np.array(["relu", "tanh", "gelu"])[(flat[:, 1] > 1).int() + (flat[:, 2] > 2).int()],
        "test_f1": [[float(a), float(b)] for a, b in zip(flat[:, 3], normal(len(flat), seed=7), strict=True)],
    })  # fmt: skip
    return EmbeddingTable.of(flat, rows.assign(**columns), {"embedder": "e"})


def standardised(table: EmbeddingTable) -> dict[str, tuple[np.ndarray, pd.DataFrame]]:
    """Features of each split, by scikit-learn, and its rows."""
    parts = {split: table.select(table.rows["split"].eq(split)) for split in ("train", "val", "test")}
    scaler = StandardScaler().fit(parts["train"].raw.double().numpy())
    return {split: (scaler.transform(part.raw.double().numpy()), part.rows) for split, part in parts.items()}


def test_ridge_is_scikit_learns_with_the_penalty_that_val_chooses() -> None:
    table = table_of()
    found = probe(table, ["epoch", "learning_rate", "test_f1"])
    parts = standardised(table)
    for name in ("epoch", "learning_rate", "test_f1/0", "test_f1/1"):
        column, _, place = name.partition("/")
        wanted = {
            split: np.array([value[int(place)] if place else value for value in rows[column]])
            for split, (_, rows) in parts.items()
        }
        models = [SklearnRidge(alpha=alpha).fit(parts["train"][0], wanted["train"]) for alpha in ALPHAS.tolist()]
        by_val = [r2_score(wanted["val"], model.predict(parts["val"][0])) for model in models]
        best = int(np.argmax(by_val))
        predicted = models[best].predict(parts["test"][0])
        assert found.chosen[name] == pytest.approx(ALPHAS[best].item())
        assert found.scores[f"val/{name}/r2"].value == pytest.approx(max(by_val), abs=1e-6)
        score, tau = found.scores[f"test/{name}/r2"], found.scores[f"test/{name}/kendall_tau"]
        assert score.value == pytest.approx(r2_score(wanted["test"], predicted), abs=1e-6)
        assert tau.value == pytest.approx(kendalltau(wanted["test"], predicted).statistic, abs=1e-6)
        mean = np.full(len(wanted["test"]), wanted["train"].mean())
        assert score.chance == pytest.approx(r2_score(wanted["test"], mean)) and tau.chance == 0
        assert score.low <= score.value <= score.high and tau.low <= tau.value <= tau.high
        assert found.scores[f"val/{name}/r2"].low is None
    assert found.scores["test/epoch/r2"].value > 0.8 > 0.3 > found.scores["test/learning_rate/r2"].value
    assert found.counts["models, train"] == 18 * EPOCHS and found.counts["runs, test"] == 6


@pytest.mark.parametrize(("models", "dimension"), [(40, 3), (20, 60)])
def test_every_penalty_gives_the_closed_form_with_fewer_models_than_features_too(models: int, dimension: int) -> None:
    raw, target = normal(models, dimension), normal(models, 2, seed=1)
    train = Features.of_training(raw)
    inputs = StandardScaler().fit_transform(raw.double().numpy())
    for alpha in (1e-5, 1.0, 1e3):
        ridge = fit_ridge(train, target, train, target, torch.tensor([alpha], dtype=torch.float64))
        expected = SklearnRidge(alpha=alpha, solver="svd").fit(inputs, target.double().numpy())
        np.testing.assert_allclose(ridge.weights.T, expected.coef_, atol=1e-6)
        np.testing.assert_allclose(ridge.predict(train), expected.predict(inputs), atol=1e-6)


def test_features_that_training_models_share_are_zero_and_parts_make_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = normal(50, 4) + torch.tensor([0.0, 1e3, -5.0, 0.0])
    raw[:, 2], raw[:, 3] = 0.1 * (1 + 1e-7 * normal(50)), 0
    whole = torch.cat(list(Features.of_training(raw).parts()))
    np.testing.assert_allclose(whole[:, :2], StandardScaler().fit_transform(raw[:, :2].double()), atol=1e-9)
    assert (whole[:, 2:] == 0).all()
    monkeypatch.setattr(features, "_ROWS", 7)
    in_parts = Features.of_training(raw)
    torch.testing.assert_close(torch.cat(list(in_parts.parts())), whole, rtol=0, atol=1e-9)
    weights = normal(4, 2, seed=1).double()
    torch.testing.assert_close(in_parts.like(raw[:9]) @ weights, whole[:9] @ weights, rtol=0, atol=1e-9)


def test_softmax_is_scikit_learns_with_the_penalty_that_val_chooses() -> None:
    table = table_of(runs=60)
    found = probe(table, [], ["activation"])
    parts = standardised(table)
    (train, rows), (val, val_rows), (test, test_rows) = parts.values()
    model = LogisticRegression(C=found.chosen["activation"], max_iter=5000, tol=1e-7).fit(train, rows["activation"])
    score = found.scores["test/activation/accuracy"]
    assert score.value == pytest.approx(model.score(test, test_rows["activation"]), abs=0.01)
    assert found.scores["val/activation/accuracy"].value == pytest.approx(
        model.score(val, val_rows["activation"]), abs=0.01
    )
    most = rows["activation"].mode()[0]
    assert score.chance == test_rows["activation"].eq(most).mean()
    assert score.low <= score.value <= score.high and score.value > score.chance + 0.2


def test_two_classes_are_told_apart() -> None:
    raw = normal(200, 3)
    labels = np.where(raw[:, 1] > 0, "b", "a")
    train = Features.of_training(raw[:150])
    softmax = fit_softmax(train, labels[:150], train.like(raw[150:]), labels[150:])
    assert (softmax.predict(train.like(raw)) == labels).mean() > 0.95 and softmax.weights.shape == (3, 1)


def test_probes_see_lengths_and_not_their_unit() -> None:
    table = table_of()
    lengths = EmbeddingTable.of(
        table.vectors * (1.0 + torch.tensor(table.rows["epoch"].tolist())[:, None]), table.rows, {}
    )
    tiny = EmbeddingTable.of(1e-6 * lengths.raw, table.rows, {})
    ours, unit = probe(lengths, ["epoch"]).scores, probe(tiny, ["epoch"]).scores
    assert ours["test/epoch/r2"].value > 0.9
    assert unit["test/epoch/r2"].value == pytest.approx(ours["test/epoch/r2"].value, abs=1e-4)


def test_targets_that_do_not_vary_are_left_out_with_the_reason() -> None:
    found = probe(table_of(), ["epoch", "dropout"])
    assert found.left_out == {"dropout": "the same for all train models"}
    assert not any("dropout" in name for name in found.scores)
    with pytest.raises(InputError, match=r"no property to probe.*got dropout: the same for all train models"):
        probe(table_of(), ["dropout"], ["task"])


def test_a_reconstruction_is_scored_against_the_mean() -> None:
    error = normal(RUNS * EPOCHS).abs().tolist()
    table = table_of(squared_error=error, squared_deviation=[2.0] * len(error))
    found = probe(table, ["epoch"]).scores
    mask = table.rows["split"].eq("test").to_numpy()
    score = found["reconstruction/r2"]
    assert score.value == pytest.approx(1 - np.array(error)[mask].mean() / 2) and score.chance == 0
    assert score.low < score.value < score.high and found["val/reconstruction/r2"].low is None
    assert "reconstruction/r2" not in probe(table_of(squared_error=error), ["epoch"]).scores
    splits = ["train/reconstruction/r2", "val/reconstruction/r2", "reconstruction/r2"]
    assert list(probe(table, []).scores) == splits


def test_probes_are_tried_on_the_test_models_of_another_zoo() -> None:
    table, other = table_of(), table_of(seed=3, runs=20, dropout=0.5)
    found = probe(table, ["epoch", "test_f1", "learning_rate"], [], {"far": other})
    parts, raw = standardised(table), other.raw.double().numpy()
    scaler = StandardScaler().fit(table.select(table.rows["split"].eq("train")).raw.double().numpy())
    model = SklearnRidge(alpha=found.chosen["epoch"]).fit(parts["train"][0], parts["train"][1]["epoch"])
    test = other.rows["split"].eq("test").to_numpy()
    predicted, wanted = model.predict(scaler.transform(raw[test])), other.rows["epoch"][test]
    score, tau = found.scores["ood/far/epoch/r2"], found.scores["ood/far/epoch/kendall_tau"]
    assert score.value == pytest.approx(r2_score(wanted, predicted), abs=1e-6)
    assert tau.value == pytest.approx(kendalltau(wanted, predicted).statistic, abs=1e-6)
    assert score.low <= score.value <= score.high and found.counts["models, far"] == test.sum()
    own = probe(table, ["epoch", "test_f1", "learning_rate"], [], {"own": table}).scores
    assert own["ood/own/test_f1/1/r2"] == own["test/test_f1/1/r2"]


def test_what_another_zoo_does_not_tell_is_left_out() -> None:
    table, other = table_of(), table_of(seed=3, epoch=2, test_f1=[[0.5 + i] for i in range(RUNS * EPOCHS)])
    found = probe(table, ["epoch", "test_f1"], [], {"far": other})
    assert found.left_out == {"far/epoch": "the same for all test models", "far/test_f1/1": "not there"}
    assert "ood/far/test_f1/0/r2" in found.scores


def test_scores_do_not_depend_on_the_order_of_the_models() -> None:
    table = table_of()
    ours = probe(table, ["epoch"], ["activation"], seed=1)
    other = probe(table.select(np.random.default_rng(0).permutation(len(table))), ["epoch"], ["activation"], seed=1)
    for name, score in ours.scores.items():
        assert other.scores[name].value == pytest.approx(score.value, abs=1e-6), name
        assert other.scores[name].low == pytest.approx(score.low, abs=1e-6), name


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"epoch": None}, r"model '0-0' has no finite epoch in the embedding table; leave the target 'epoch' out"),
        ({"epoch": "many"}, r"target 'epoch' is no number.*name it among the classes"),
        ({"activation": None}, r"model '0-0' has no activation"),
        ({"split": "test"}, r"no model in the split 'train'"),
        ({"test_f1": [[1.0] * (1 + i % 2) for i in range(RUNS * EPOCHS)]}, r"lists of different lengths.*got \[1, 2\]"),
    ],
)
def test_bad_targets_are_one_sentence(columns: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        probe(table_of(**columns), ["epoch", "test_f1"], ["activation"])


def test_a_missing_target_and_another_embedder_are_refused() -> None:
    with pytest.raises(InputError, match=r"missing column 'epoc'.*did you mean 'epoch'"):
        probe(table_of(), ["epoc"])
    other = table_of(seed=1)
    for wrong in (EmbeddingTable.of(other.raw, other.rows, {"embedder": "f"}), table_of(seed=1, dimension=9)):
        with pytest.raises(InputError, match=r"another embedder in the embedding table of zoo 'far'"):
            probe(table_of(), ["epoch"], [], {"far": wrong})
    with pytest.raises(InputError, match=r"no model in the split 'test'.*zoo 'far'"):
        probe(table_of(), ["epoch"], [], {"far": other.select(other.rows["split"].eq("val"))})
