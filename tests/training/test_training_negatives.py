from dataclasses import replace

import pandas as pd
import pytest
import torch

from peace.augmentations import Kinship
from peace.errors import InputError
from peace.training.negatives import Couples, NegativesConfig
from peace.training.sampler import Sampler, SamplerConfig

KINDS = ["hard", "other_performance", "other_architecture", "other_task"]


def zoo(tasks: int = 6, seeds: int = 2) -> pd.DataFrame:
    """Two architectures of each task: clean ones at accuracies 0.9 and 0.6, with a backdoor, and of noisy labels."""
    rows = [
        {"task": f"t{task}", "architecture_config": name, "corruption": corruption, "test_accuracy": accuracy,
         "recipe": f"{task} {name} {corruption} {accuracy}", "run_id": f"{task} {name} {corruption} {accuracy} {seed}"}
        for task in range(tasks) for name in ("mlp", "cnn") for seed in range(seeds)
        for corruption, accuracy in (("none", 0.9), ("none", 0.6), ("backdoor", 0.88), ("label_noise_0.4", 0.75))
    ]  # fmt: skip
    return pd.DataFrame(rows)


def kinship(rows: pd.DataFrame) -> Kinship:
    numbers = [torch.tensor(pd.factorize(rows[name])[0].tolist()) for name in ("run_id", "recipe")]
    return Kinship(*numbers, torch.ones(len(rows), dtype=torch.int64))


def sampler(rows: pd.DataFrame, config: SamplerConfig, sizes: torch.Tensor | None = None, seed: int = 0) -> Sampler:
    return Sampler(kinship(rows), config, seed, Couples(rows, config.negatives), sizes)


def is_negative(kind: str, one: pd.Series, other: pd.Series) -> bool:
    """Whether two models are negatives of a kind, in the words of paper b."""
    task, architecture = one["task"] == other["task"], one["architecture_config"] == other["architecture_config"]
    apart = abs(one["test_accuracy"] - other["test_accuracy"]) >= 0.2
    return {
        "hard": task and architecture and one["corruption"] != other["corruption"],
        "other_performance": task and architecture and apart,
        "other_architecture": task and not architecture,
        "other_task": not task,
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_share_of_the_batch_is_couples_of_the_kind(kind: str, share: float) -> None:
    rows, config = zoo(), NegativesConfig(**{kind: share})
    couples = Couples(rows, config)
    drawn = sampler(rows, SamplerConfig(12, negatives=config))
    for step in range(6):
        models = torch.randperm(len(rows), generator=torch.Generator().manual_seed(step))
        (found,) = couples.draw(models, 12).values()
        assert len(found) == int(6 * share) and len({place for couple in found for place in couple}) == 2 * len(found)
        for couple in found:
            one, other = (rows.loc[int(models[place])] for place in couple)
            assert is_negative(kind, one, other)
        batch = rows.loc[drawn.batch(step).tolist()]
        assert len(batch) == 12 and batch["recipe"].is_unique and batch.index.is_monotonic_increasing
        met = [
            any(is_negative(kind, one, other) for _, other in batch.iterrows() if other is not one)
            for _, one in batch.iterrows()
        ]
        assert sum(met) >= 12 * share


def test_all_kinds_have_their_shares_of_one_batch() -> None:
    rows, config = zoo(), NegativesConfig(hard=0.25, other_performance=0.25, other_architecture=0.25, other_task=0.25)
    found = Couples(rows, config).draw(torch.randperm(len(rows)), 24)
    assert {name: len(couples) for name, couples in found.items()} == dict.fromkeys(KINDS, 3)
    places = [place for couples in found.values() for couple in couples for place in couple]
    assert len(places) == len(set(places)) == 24


def test_couples_are_drawn_uniformly() -> None:
    rows = zoo(tasks=3, seeds=1)
    drawn = sampler(rows, SamplerConfig(2, negatives=NegativesConfig(hard=1.0)))
    counts = torch.cat([drawn.batch(step) for step in range(1000)]).bincount(minlength=len(rows)).double() / 1000
    # The first of a couple is uniform over all 24. A clean one meets 2 others, a corrupted one 3, of which 2 are clean.
    clean = torch.tensor((rows["corruption"] == "none").tolist())
    expected = torch.where(clean, 1 / 24 + 2 / 24 / 3, 1 / 24 + 1 / 24 / 3 + 2 / 24 / 2)
    # The standard deviation of one share is 0.009.
    assert (counts - expected).abs().max() < 0.033


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    rows, config = zoo(), SamplerConfig(10, negatives=NegativesConfig(hard=0.4, other_task=0.2))
    first, again, other = (sampler(rows, config, seed=seed) for seed in (3, 3, 4))
    expected = [first.batch(step) for step in range(10)]
    torch.manual_seed(9)
    assert all(torch.equal(again.batch(step), expected[step]) for step in reversed(range(10)))
    assert not any(torch.equal(other.batch(step), expected[step]) for step in range(10))


def test_a_manifest_without_corruptions_has_no_hard_negatives() -> None:
    rows = zoo().drop(columns="corruption")
    with pytest.raises(
        InputError, match=r"not enough negatives in 'sampler.negatives.hard': got no two models of that"
    ):
        Couples(rows, NegativesConfig(hard=0.5))
    mixed = zoo().assign(corruption=lambda found: found["corruption"].replace({"none": None}))
    models, config = torch.arange(len(mixed)), NegativesConfig(hard=1.0)
    assert Couples(mixed, config).draw(models, 12) == Couples(zoo(), config).draw(models, 12)


BAD = {
    "more than the whole": (NegativesConfig(hard=0.6, other_task=0.5), r"more than the whole in .*got 1\.1, expected"),
    "less than a couple": (NegativesConfig(hard=0.1), r"a share of 12 models is less than one couple .* least 0\.167"),
    "no such gap": (NegativesConfig(other_performance=0.5, gap=0.5), r"negatives\.other_performance': got no two"),
    "no such column": (NegativesConfig(other_performance=0.5, performance="f1"), r"no such .*performance: got .*'f1'"),
    "names, no numbers": (NegativesConfig(other_performance=0.5, performance="task"), r"'task'\], expected numeric"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_drawn_is_refused(case: str) -> None:
    config, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        sampler(zoo(), SamplerConfig(12, negatives=config))
    assert "\n" not in str(caught.value)


def test_a_zoo_with_too_few_is_refused() -> None:
    rows = zoo()
    few = rows[(rows["corruption"] == "none") | (rows["task"] == "t0")].reset_index(drop=True)
    with pytest.raises(
        InputError, match=r"'sampler.negatives.hard': got \d couples, expected 6 in a batch of 12; lower"
    ):
        sampler(few, SamplerConfig(12, negatives=NegativesConfig(hard=1.0)))


def test_numbers_that_lack_are_refused() -> None:
    rows = zoo()
    rows.loc[3, "test_accuracy"] = float("nan")
    with pytest.raises(
        InputError, match=r"not every model has the sampler\.negatives.performance 'test_accuracy': got 1"
    ):
        Couples(rows, NegativesConfig(other_performance=0.5))


def test_a_budget_leaves_no_couple_apart() -> None:
    rows = zoo()
    sizes = torch.where(torch.tensor((rows["architecture_config"] == "cnn").tolist()), 30, 10)
    config = SamplerConfig(20, weights=120, negatives=NegativesConfig(hard=1.0))
    drawn = sampler(rows, config, sizes)
    for step in range(50):
        batch = drawn.batch(step)
        assert sizes[batch].sum() <= 120 and len(batch) % 2 == 0 and len(batch) >= drawn.least == 3
    assert {len(drawn.batch(step)) for step in range(50)} >= {4, 6}
    with pytest.raises(
        InputError, match=r"a batch may have no room for two models in 'sampler\.weights': got 60, expected at least 90"
    ):
        sampler(rows, replace(config, weights=60), sizes)
    assert sampler(rows, SamplerConfig(2, weights=60, negatives=NegativesConfig(hard=1.0)), sizes).least == 2
