"""Pairs that are drawn for a picture are some of all, of the same models whatever is predicted."""

import torch

from peace.evaluation.predictions import drawn


def test_pairs_are_drawn_by_the_seed_and_are_those_of_the_same_models() -> None:
    models = torch.arange(100.0)
    given = {"test/epoch": (models, models + 0.5), "test/accuracy": (2 * models, models), "ood/a": (models[:7],) * 2}
    found = drawn(given, 20, seed=1)
    assert found["of"].tolist() == ["test/epoch"] * 20 + ["test/accuracy"] * 20 + ["ood/a"] * 7
    epoch, accuracy, few = (found[found["of"] == name] for name in given)
    assert (epoch["predicted"] - epoch["true"]).eq(0.5).all() and epoch["true"].is_monotonic_increasing
    assert epoch["true"].nunique() == 20 and (accuracy["true"].to_numpy() == 2 * epoch["true"].to_numpy()).all()
    assert few["true"].tolist() == list(range(7))
    assert found.equals(drawn(given, 20, seed=1)) and not found.equals(drawn(given, 20, seed=2))


def test_nothing_gives_no_rows() -> None:
    assert drawn({}, 20).empty and list(drawn({}, 20)) == ["of", "true", "predicted"]
