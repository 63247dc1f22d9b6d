"""Training of whole zoos: what is written, and that a stop at any step changes no bit of it."""

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from zoo_cases import flat

from peace.datasets import images
from peace.datasets.form import load_as
from peace.datasets.tasks import Task
from peace.errors import InputError
from peace.interruption import Interrupted
from peace.zoo import train
from peace.zoo.architectures import build
from peace.zoo.population import Member, Plan, Population
from peace.zoo.recipe import shards
from peace.zoo.reference import own_images, score_alone, train_alone
from peace.zoo.scores import score
from peace.zoo.storage import MANIFEST, Zoo
from peace.zoo.train import Snapshot, recipe_from, train_zoo

RECIPE: dict[str, Any] = {
    "name": "test", "seed": 0, "dataset": "tetris", "subset_size": 3, "subset_count": 3, "held_out": 1,
    "architectures": [{"name": "mlp", "hidden": [3]}], "activations": ["relu", "tanh"], "epochs": 2, "batch_size": 150,
    "learning_rates": [0.01, 0.03], "dropouts": [0.0, 0.3], "train_fractions": [0.6], "seeds": 2,
    "checkpoints": [0, 1, 2], "shard_size": 10,
}  # fmt: skip


def trained(folder: Path, **change: object) -> Zoo:
    return train_zoo(recipe_from(RECIPE | change), folder, progress=False)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """48 runs with three checkpoints each, in two architectures and six shards; to be read only."""
    torch.set_num_threads(1)
    return trained(tmp_path_factory.mktemp("zoo"))


@contextmanager
def stopping(monkeypatch: pytest.MonkeyPatch, asks: int) -> Iterator[None]:
    """A stop is requested once the training has asked `asks` times whether one was."""

    class Request:
        count = 0

        @property
        def asked(self) -> bool:
            self.count += 1
            return self.count > asks

        @asked.setter
        def asked(self, value: bool) -> None:
            self.count = asks if value else 0

    @contextmanager
    def requests() -> Iterator[Request]:
        yield Request()

    with monkeypatch.context() as patch:
        patch.setattr(train, "stop_requests", requests)
        yield


def module_of(zoo: Zoo, row: pd.Series) -> nn.Sequential:
    module = build(row["architecture_config"]).eval()
    tensors = zoo.weights(zoo.rows[zoo.rows["id"] == row["id"]])
    module.load_state_dict({name: value[0] for name, value in tensors.items()})
    return module


def test_the_manifest_has_a_row_for_every_checkpoint_of_every_run(zoo: Zoo) -> None:
    rows = zoo.rows
    assert len(rows) == 48 * 3 and rows["id"].is_unique
    assert rows.groupby("run_id")["epoch"].apply(list).map(tuple).unique().tolist() == [(0, 1, 2)]
    assert rows.groupby("recipe")["run_id"].nunique().unique().tolist() == [2]
    assert (rows.groupby("run_id")["split"].nunique() == 1).all()
    assert len(list((zoo.folder / "weights").glob("*.safetensors"))) == rows["weights_file"].nunique() == 6
    assert not list(zoo.folder.rglob("*.partial")) and not list(zoo.folder.rglob(".*"))
    assert zoo.verify() == []


def test_rows_say_what_the_recipe_said(zoo: Zoo) -> None:
    members = {run.run_id: (shard, run) for shard in shards(recipe_from(RECIPE)) for run in shard.runs}
    for row in zoo.rows.to_dict("records"):
        shard, run = members[row["run_id"]]
        assert row["weights_file"] == shard.file and row["split"] == run.split and row["recipe"] == run.recipe
        assert json.loads(row["architecture_config"]) == shard.plan.architecture
        assert (row["task"], row["seed"], row["dropout"]) == (run.member.task.id, run.member.seed, run.member.dropout)
        assert (row["learning_rate"], row["train_fraction"]) == (run.member.learning_rate, 0.6)
        assert tuple(row["tags"]) == run.member.task.tags()
        assert (row["optimizer"], row["batch_size"], row["status"], row["parent"]) == ("adam", 150, "ok", None)


def test_stored_weights_and_scores_are_those_of_models_trained_alone(zoo: Zoo) -> None:
    data = images.load("tetris")
    chosen = {run.run_id: (shard.plan, run.member) for shard in shards(recipe_from(RECIPE)) for run in shard.runs}
    for _, row in zoo.rows.iloc[[0, 4, 17, 44, 77, 143]].iterrows():
        plan, member = chosen[row["run_id"]]
        alone, stored = train_alone(plan, member, data, epochs=row["epoch"]), module_of(zoo, row)
        assert (flat(alone) - flat(stored)).abs().max() < 1e-5
        test, targets = member.task.select(data.y_test, len(data.classes))
        for part, (pixels, classes) in {
            "train": own_images(member, data),
            "test": (data.x_test[test], targets),
        }.items():
            found = score_alone(stored, pixels, classes)
            assert row[f"{part}_loss"] == pytest.approx(found["loss"].item(), rel=1e-5)
            assert row[f"{part}_accuracy"] == pytest.approx(found["accuracy"].item())
            assert list(row[f"{part}_f1"]) == pytest.approx(found["f1"].tolist())
        assert row["generalisation_gap"] == pytest.approx(row["train_accuracy"] - row["test_accuracy"], abs=1e-6)


def test_models_learn(zoo: Zoo) -> None:
    assert zoo.rows.groupby("epoch")["test_loss"].mean().is_monotonic_decreasing


@pytest.mark.parametrize("asks", [2, 5, 20])
def test_a_zoo_stopped_again_and_again_is_the_same_zoo(
    asks: int, zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops, steps = 0, 6 * 2 * 9
    while not (tmp_path / MANIFEST).is_file():
        assert stops < steps, "a call that was stopped lost what it had done"
        with stopping(monkeypatch, asks):
            try:
                found = trained(tmp_path)
            except Interrupted as stop:
                stops += 1
                assert stop.exit_code == 130 and "run the same command again" in str(stop)
                assert list((tmp_path / "weights").glob("*.partial"))
    assert stops >= 2
    assert not list(tmp_path.rglob("*.partial"))
    assert found.verify() == []
    pd.testing.assert_frame_equal(found.rows, zoo.rows)


def test_ctrl_c_saves_and_stops(zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        def interrupted(population: Population, weights: Tensor) -> dict[str, Tensor]:
            signal.raise_signal(signal.SIGINT)
            return score(population, weights)

        patch.setattr(train, "score", interrupted)
        before = signal.getsignal(signal.SIGINT)
        with pytest.raises((Interrupted, KeyboardInterrupt)):
            trained(tmp_path)
        assert signal.getsignal(signal.SIGINT) is before
    pd.testing.assert_frame_equal(trained(tmp_path).rows, zoo.rows)


def test_a_zoo_that_is_there_is_not_trained_again(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "_train_shard", None)
    assert trained(zoo.folder).hash == zoo.hash


def test_shards_in_threads_are_shards_one_after_the_other(zoo: Zoo, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    try:
        found = trained(tmp_path)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert found.rows["sha256"].tolist() == zoo.rows["sha256"].tolist()


def test_the_size_of_shards_does_not_change_a_model(zoo: Zoo, tmp_path: Path) -> None:
    found = trained(tmp_path, shard_size=1024)
    assert found.rows["weights_file"].nunique() == 2
    assert found.rows["id"].tolist() == zoo.rows["id"].tolist()
    for one, other in zip(found.by_architecture(), zoo.by_architecture(), strict=True):
        left, right = found.weights(one), zoo.weights(other)
        assert max(float((left[name] - right[name]).abs().max()) for name in left) < 1e-5


def test_a_failing_shard_stops_the_others_and_its_error_is_the_one_seen(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., pd.DataFrame] = train._train_shard
    first = shards(recipe_from(RECIPE))[0].file

    def failing(recipe: object, shard: Any, *rest: object) -> pd.DataFrame:
        if shard.file == first:
            raise OSError("disk full")
        return real(recipe, shard, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(train, "_train_shard", failing)
        with pytest.raises(OSError, match="disk full"):
            trained(tmp_path)
    assert len(list((tmp_path / "weights").glob("*.safetensors"))) < 5
    pd.testing.assert_frame_equal(trained(tmp_path).rows, zoo.rows)


def test_a_diverging_model_is_kept_and_marked(tmp_path: Path) -> None:
    change = {"optimizers": ["sgd"], "learning_rates": [1e30, 0.01], "dropouts": [0.0], "activations": ["relu"]}
    zoo = trained(tmp_path / "with", **change)
    wild = zoo.rows["learning_rate"] == 1e30
    trained_on = zoo.rows["epoch"] > 0
    assert set(zoo.rows.loc[wild & trained_on, "status"]) == {"diverged"}
    assert set(zoo.rows.loc[~wild | ~trained_on, "status"]) == {"ok"}
    columns = ["train_loss", "test_loss", "train_accuracy", "test_accuracy", "generalisation_gap"]
    assert zoo.rows.loc[wild & trained_on, columns].isna().all(axis=None)
    assert zoo.rows.loc[~wild, columns].notna().all(axis=None)
    assert zoo.rows.loc[wild & trained_on, "test_f1"].map(lambda f1: pd.isna(f1).all()).all()
    assert zoo.verify() == []
    calm = trained(tmp_path / "calm", **change | {"learning_rates": [0.02, 0.01]})
    left, right = (found.rows[found.rows["learning_rate"] == 0.01].set_index("id") for found in (zoo, calm))
    assert left["sha256"].equals(right["sha256"])


CORRUPTIONS = [{"name": "none"}, {"name": "backdoor", "target": 1}, {"name": "adversarial", "epsilon": 0.2}]


@pytest.fixture(scope="module")
def corrupted(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    """The zoo with an axis of corruptions, on two data sets of one form; to be read only."""
    torch.set_num_threads(1)
    return trained(tmp_path_factory.mktemp("corrupted"), **CORRUPTED)


CORRUPTED: dict[str, Any] = {
    "corruptions": CORRUPTIONS, "dataset": ["tetris", "digits"], "image_size": 5, "train_per_class": 40,
    "test_per_class": 20, "dropouts": [0.0], "batch_size": 30, "activations": ["tanh"], "train_fractions": [1.0],
    "learning_rates": [0.03], "subset_count": 2, "epochs": 2,
}  # fmt: skip


def test_a_manifest_tells_what_was_wrong(corrupted: Zoo) -> None:
    rows = corrupted.rows
    assert len(rows) == 2 * 2 * 3 * 2 * 3 and corrupted.verify() == []
    assert dict(rows.groupby("dataset").size()) == {"digits": len(rows) // 2, "tetris": len(rows) // 2}
    for name, own in rows.groupby("corruption"):
        configs = {json.dumps(json.loads(text), sort_keys=True) for text in own["corruption_config"]}
        assert len(configs) == 1 and json.loads(configs.pop())["name"] == name
        assert own["attack_success"].notna().all() == (name == "backdoor") != own["attack_success"].isna().all()
        assert own["robust_accuracy"].notna().all() == (name == "adversarial") != own["robust_accuracy"].isna().all()
        assert set(own["train_accuracy"].mul(3 * 40).round(3) % 1) == {0.0}
    assert (rows.groupby("recipe")["corruption"].nunique() == 1).all()
    assert (rows.groupby("recipe")["run_id"].nunique() == 2).all()


def test_stored_corrupted_models_are_those_trained_alone(corrupted: Zoo) -> None:
    recipe = recipe_from(RECIPE | CORRUPTED)
    chosen = {run.run_id: (shard, run.member) for shard in shards(recipe) for run in shard.runs}
    for (dataset, _), rows in corrupted.rows[corrupted.rows["epoch"] == 2].groupby(["dataset", "corruption"]):
        shard, member = chosen[rows["run_id"].iloc[0]]
        alone = train_alone(shard.plan, member, load_as(dataset, recipe.form))
        assert (flat(alone) - flat(module_of(corrupted, rows.iloc[0]))).abs().max() < 1e-4


def test_a_corrupted_zoo_stopped_again_and_again_is_the_same_zoo(
    corrupted: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops = 0
    while not (tmp_path / MANIFEST).is_file():
        with stopping(monkeypatch, 9):
            try:
                found = trained(tmp_path, **CORRUPTED)
            except Interrupted:
                stops += 1
    assert stops >= 2
    pd.testing.assert_frame_equal(found.rows, corrupted.rows)


# --- snapshots


def population_in_training(compiled: bool = False) -> Population:
    """One with dropout, or of those that a compiled loop trains, in steps of a hundred batches of four."""
    member = Member(Task("tetris"), 3, "normal", 0.01, dropout=0.0 if compiled else 0.2, weight_decay=0.1)
    shape = {
        "name": "mlp",
        "hidden": [4],
        "activation": "relu",
        "input_shape": [1, 4, 4],
        "outputs": 4,
        "dropout": not compiled,
    }
    optimizer, batch = ("adam", 4) if compiled else ("adamw", 128)
    population = Population(Plan(shape, optimizer, 3, batch, (1, 3)), [member, member], images.load("tetris"))
    assert (population.dense is not None) == compiled
    return population


@pytest.mark.parametrize(
    ("steps", "compiled"), [(0, False), (1, False), (5, False), (24, False), (0, True), (1, True), (8, True)]
)
def test_a_snapshot_goes_on_bit_for_bit(steps: int, compiled: bool, tmp_path: Path) -> None:
    def finished(population: Population, position: Any) -> Tensor:
        while position.epoch < 3:
            for _ in population.epoch(position):
                pass
        return position.weights

    population = population_in_training(compiled)
    position = population.start()
    left = iter(range(steps))
    for _ in population.epoch(position, stop=lambda: next(left, None) is None):
        pass
    kept = {12: (position.weights + 1, {"test_loss": torch.tensor([1.0, 2.0])}), 1: (position.weights, {})}
    Snapshot(tmp_path / "at", population).save(position, kept)
    resumed, found = Snapshot(tmp_path / "at", population_in_training(compiled)).load()
    assert (resumed.epoch, resumed.step) == (position.epoch, position.step)
    assert list(found) == [1, 12] and torch.equal(found[12][0], kept[12][0])
    assert found[12][1].keys() == {"test_loss"} and torch.equal(found[12][1]["test_loss"], torch.tensor([1.0, 2.0]))
    assert found[1][1] == {}
    assert torch.equal(finished(population_in_training(compiled), resumed), finished(population, position))


def test_a_damaged_snapshot_is_refused(tmp_path: Path) -> None:
    (tmp_path / "at").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"cannot read where the training stopped in .*delete that file"):
        Snapshot(tmp_path / "at", population_in_training()).load()
