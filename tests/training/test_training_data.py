import dataclasses
import json
from collections.abc import Callable, Iterable
from itertools import starmap
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import Tensor

from peace.augmentations.checkpoint import Checkpoint
from peace.augmentations.crossover import Crossover
from peace.augmentations.near_duplicate import NearDuplicate
from peace.augmentations.noise import Noise
from peace.errors import InputError
from peace.graph.stack import Stack
from peace.training.data import Probe, Steps, ZooData
from peace.training.pool import Views
from peace.training.sampler import SamplerConfig
from peace.zoo.architectures import build
from peace.zoo.initialisation import initialise
from peace.zoo.storage import Zoo, last_checkpoints, usable, write_stack

Make = Callable[..., ZooData]


def parts(stack: Stack) -> list[Tensor]:
    return [tensor for tensor in (*stack.weights, *stack.biases) if tensor is not None]


def same(first: Views, second: Views) -> bool:
    pairs = zip(first.pairs, second.pairs, strict=True)
    facts = zip(vars(first.facts).values(), vars(second.facts).values(), strict=True)
    return (
        torch.equal(first.targets, second.targets)
        and all(starmap(torch.equal, facts))
        and all(a.graph == b.graph and all(map(torch.equal, parts(a), parts(b))) for a, b in pairs)
    )


def recognised(zoo: Zoo, stacks: list[Stack]) -> list[int]:
    """The row of the manifest that each model of the stacks is, by the first entries of its tensors."""
    marks = {}
    for rows in zoo.by_architecture():
        marks |= dict(zip(_marks(zoo.weights(rows).values()), rows.index, strict=True))
    assert len(marks) == len(zoo.rows)
    return [marks[mark] for stack in stacks for mark in _marks(parts(stack))]


def _marks(tensors: Iterable[Tensor]) -> list[tuple[float, ...]]:
    firsts = torch.stack([tensor.flatten(1)[:, 0] for tensor in tensors], dim=1)
    return [tuple(row) for row in firsts.sort(dim=1).values.tolist()]


def altered(zoo: Zoo, rows: "pd.Series[bool]", column: str, value: str) -> Zoo:
    changed = zoo.rows.copy()
    changed.loc[rows, column] = value
    return Zoo(zoo.folder, changed)


def test_views_are_a_function_of_seed_and_step(make_data: Make) -> None:
    first, again, other = make_data(), make_data(), make_data(seed=4)
    expected = [first.views(step) for step in range(4)]
    torch.manual_seed(9)
    assert all(same(again.views(step), expected[step]) for step in reversed(range(4)))
    assert not any(same(expected[0], views) for views in (*expected[1:], other.views(0)))


def test_a_batch_shows_each_model_beside_its_near_duplicate(make_data: Make, zoo: Zoo) -> None:
    data = make_data(augmentations=[NearDuplicate()])
    for step in range(5):
        views = data.views(step)
        models = data.sampler.batch(step)
        first, second = views.split(torch.tensor(recognised(zoo, views.pairs)))
        one, two = zoo.rows.loc[first.tolist()], zoo.rows.loc[second.tolist()]
        assert sorted(one["id"]) == sorted(data.train.rows["id"].iloc[models.tolist()]) and one["recipe"].is_unique
        assert one["recipe"].tolist() == two["recipe"].tolist() and one["epoch"].tolist() == two["epoch"].tolist()
        assert {*one["split"], *two["split"]} == {"train"}
        alone = data.train.rows.groupby("recipe")["run_id"].nunique()[one["recipe"]] == 1
        assert (one["run_id"].to_numpy() == two["run_id"].to_numpy()).tolist() == alone.tolist()


def test_a_crossed_network_is_of_training_networks_and_decoded_to_itself(make_data: Make) -> None:
    crossed, plain = (make_data(augmentations=[Noise(0.1), *more]) for more in ([Crossover(1.0)], []))
    changed = []
    for views, before in ((crossed.views(step), plain.views(step)) for step in range(4)):
        for seen, original, given in zip(views.pairs, views.originals, before.originals, strict=True):
            known = parts(next(stack for stack in crossed.train.stacks if stack.graph == original.graph))
            for numbers, every in zip(parts(original), known, strict=True):
                assert torch.equal(*numbers.chunk(2)), "both views have the same neurons"
                assert torch.isin(numbers, every).all(), "and no other numbers than training networks have"
            assert not any(starmap(torch.equal, zip(parts(seen), parts(original), strict=True))), "views are noisy"
            changed += (original.weights[0] != given.weights[0]).flatten(1).any(1).tolist()
    assert sum(changed) > len(changed) / 2


@pytest.mark.parametrize("split", ["train", "val"])
def test_every_neuron_is_of_the_epoch_that_is_shown_and_of_the_same_split(
    make_data: Make, zoo: Zoo, split: str
) -> None:
    data = make_data(augmentations=[], decoded=[Checkpoint(1.0), Crossover(1.0, 1.0)])
    pool = data.pool(split)
    for views in data.looks(64) if split == "val" else map(data.views, range(4)):
        models = views.split(torch.tensor(recognised(zoo, views.pairs)))[0]
        found = []
        for stack in views.decoded:
            place = next(place for place, known in enumerate(pool.stacks) if known.graph == stack.graph)
            equal = (stack.weights[0][:, None] == pool.stacks[place].weights[0]).flatten(3).all(3)
            assert equal.any(1).all(), "every neuron is of this split"
            found.append(pool.kinship.epochs[pool.starts[place] + equal.int().argmax(1)].unique(dim=1))
        # The other checkpoint of the run is shown, and each has two.
        assert torch.equal(torch.cat(found), 3 - torch.tensor(zoo.rows["epoch"][models.tolist()].to_numpy())[:, None])


def test_all_train_models_are_there_and_no_other(make_data: Make, zoo: Zoo) -> None:
    data = make_data()
    rows = zoo.rows[zoo.rows["split"] == "train"]
    assert sorted(recognised(zoo, data.train.stacks)) == sorted(rows.index)
    assert [zoo.rows["id"][row] for row in recognised(zoo, data.train.stacks)] == data.train.rows["id"].tolist()
    assert len(rows) < len(zoo.rows)


def test_split_undoes_the_order_of_stacks() -> None:
    a, b = (Stack(None, (torch.zeros(n, 1, 1, 1),), (None,)) for n in (4, 2))  # type: ignore[arg-type]
    views = Views([a, b], None, [a, b], torch.zeros(0), None, None)  # type: ignore[arg-type]
    first, second = views.split(torch.tensor([0, 1, 10, 11, 2, 12]))
    assert first.tolist() == [0, 1, 2] and second.tolist() == [10, 11, 12]


def test_a_batch_without_an_architecture_has_no_stack_of_it(make_data: Make) -> None:
    data = make_data(sampler=SamplerConfig(batch_size=1))
    shown = [data.views(step).pairs for step in range(8)]
    assert all(len(pairs) == 1 and len(pairs[0]) == 2 for pairs in shown)
    assert len({pairs[0].graph for pairs in shown}) == 2


def test_models_that_diverged_are_left_out(make_data: Make, zoo: Zoo) -> None:
    for split in ("train", "val"):
        gone = zoo.rows["id"] == zoo.rows["id"][zoo.rows["split"] == split].iloc[0]
        data = make_data(zoo=altered(zoo, gone, "status", "diverged"))
        (probe,) = data.val_dataloader()
        assert gone[gone].index[0] not in recognised(zoo, [*data.train.stacks, *probe.stacks])
    assert usable(altered(zoo, zoo.rows["epoch"] == 1, "status", "diverged").rows)["epoch"].unique().tolist() == [2]


def test_a_zoo_without_models_of_a_split_is_refused(make_data: Make, zoo: Zoo) -> None:
    with pytest.raises(InputError, match=r"the zoo has no usable model in 'train' in .*: got 0, expected at least one"):
        make_data(zoo=altered(zoo, zoo.rows["split"] == "train", "status", "diverged"))
    data = make_data(zoo=altered(zoo, zoo.rows["split"] == "val", "split", "test"))
    with pytest.raises(InputError, match="no usable model in 'val'"):
        data.val_dataloader()


def test_the_probe_holds_each_val_run_by_its_last_checkpoint(make_data: Make, zoo: Zoo) -> None:
    (probe,) = make_data().val_dataloader()
    rows = zoo.rows.loc[recognised(zoo, probe.stacks)]
    assert sorted(rows["run_id"]) == sorted(zoo.rows["run_id"][zoo.rows["split"] == "val"].unique())
    assert set(rows["epoch"]) == {2}
    for numbers, column in ((probe.tasks, "task"), (probe.runs, "run_id")):
        assert (
            len(set(zip(numbers.tolist(), rows[column], strict=True)))
            == rows[column].nunique()
            == len(set(numbers.tolist()))
        )
    cut = pd.DataFrame({"run_id": ["a", "a", "b"], "epoch": [1, 3, 1], "id": ["a1", "a3", "b1"]})
    assert last_checkpoints(cut)["id"].tolist() == ["a3", "b1"]


def test_targets_are_standardised_over_the_training_models(make_data: Make, zoo: Zoo) -> None:
    data = make_data(targets=["test_accuracy", "epoch"], augmentations=[NearDuplicate()])
    values = torch.tensor(data.train.rows[["test_accuracy", "epoch"]].to_numpy(dtype="float64"))
    torch.testing.assert_close(data.train.targets.mean(0), torch.zeros(2), atol=1e-6, rtol=0)
    torch.testing.assert_close(data.train.targets.square().mean(0), torch.ones(2))
    slope = (values[0] - values[-1]) / (data.train.targets[0] - data.train.targets[-1])
    torch.testing.assert_close(slope, values.std(0, correction=0))
    views = data.views(2)
    place = dict(zip(data.train.rows["id"], range(len(data.train.rows)), strict=True))
    shown = [place[zoo.rows["id"][row]] for row in recognised(zoo, views.pairs)]
    assert torch.equal(views.targets, data.train.targets[shown])


def test_a_constant_target_is_zero(make_data: Make, zoo: Zoo) -> None:
    rows = zoo.rows.assign(constant=0.1, large=2**62 + 1)
    data = make_data(zoo=Zoo(zoo.folder, rows), targets=["constant", "large"])
    assert torch.equal(data.train.targets, torch.zeros(len(data.train.rows), 2))
    assert make_data().train.targets.shape == (len(data.train.rows), 0)


@pytest.mark.parametrize("name", ["accuracy", "task", "tags", "parent"])
def test_an_unknown_target_is_refused(make_data: Make, name: str) -> None:
    with pytest.raises(InputError, match=rf"no such regression target: got \['{name}'\], expected numeric columns"):
        make_data(targets=["test_accuracy", name])


def test_the_loader_goes_on_where_training_stands(make_data: Make) -> None:
    stand = SimpleNamespace(global_step=5, global_rank=0, world_size=1)
    data = make_data()
    data.trainer = stand  # type: ignore[assignment]
    loader = data.train_dataloader()
    shown = list(loader)
    assert len(loader) == 4 and len(shown) == 3
    assert all(same(views, data.views(step)) for step, views in zip((5, 6, 7), shown, strict=True))


@pytest.mark.parametrize("world", [2, 3, 6])
def test_shares_hold_each_pair_once(world: int, make_data: Make, zoo: Zoo) -> None:
    data = make_data(targets=["test_accuracy"], augmentations=[NearDuplicate()])
    for views in map(data.views, range(3)):
        shares = [views.share(rank, world) for rank in range(world)]
        whole = torch.stack(views.split(torch.tensor(recognised(zoo, views.pairs))), dim=1)
        for rank, share in enumerate(shares):
            assert share.total == len(whole) == 6 and all(len(stack) for stack in share.pairs)
            rows = share.split(torch.tensor(recognised(zoo, share.pairs)))
            assert torch.equal(torch.stack(rows, dim=1), whole[rank::world])
            targets, expected = (torch.stack(one.split(one.targets), dim=1) for one in (share, views))
            assert torch.equal(targets, expected[rank::world])
        assert {len(share.pairs) for share in shares} <= {1, 2}
    assert views.share(0, 1) is views and views.total is None


def test_shares_hold_each_view_once_that_is_decoded(make_data: Make, zoo: Zoo) -> None:
    views = make_data(augmentations=[], decoded=[]).views(1)
    whole = sorted(recognised(zoo, views.decoded))
    for world in (2, 3):
        shares = [views.share(rank, world) for rank in range(world)]
        for share in shares:
            # Without augmentations the first of each pair is what is decoded.
            first = share.split(torch.tensor(recognised(zoo, share.pairs)))[0]
            assert recognised(zoo, share.decoded) == recognised(zoo, share.originals) == first.tolist()
        assert sorted(row for share in shares for row in recognised(zoo, share.decoded)) == whole


@pytest.mark.parametrize(("at", "steps"), [(0, [0, 1, 2, 3]), (3, [3]), (4, [4, 5, 6, 7]), (10, [10, 11])])
def test_an_epoch_ends_where_it_would_have_ended(at: int, steps: list[int]) -> None:
    loader = Steps(lambda step: step, 4, lambda: at)  # type: ignore[arg-type, return-value]
    assert list(loader) == list(loader) == steps


def test_batches_move_with_all_they_hold(make_data: Make) -> None:
    data = make_data(targets=["test_accuracy"], decoded=[])
    meta = torch.device("meta")
    views = data.transfer_batch_to_device(data.views(0), meta, 0)
    (probe,) = data.val_dataloader()
    moved = data.transfer_batch_to_device(probe, meta, 0)
    assert isinstance(views, Views) and isinstance(moved, Probe)
    tensors = [
        part for stack in (*views.pairs, *views.decoded, *views.originals, *moved.stacks) for part in parts(stack)
    ]
    known = (*vars(views.facts).values(), *vars(views.partners).values())
    moving = (*tensors, views.targets, *known, moved.tasks, moved.runs)
    assert all(tensor.device == meta for tensor in moving)
    assert [field.name for field in dataclasses.fields(Probe)] == ["stacks", "tasks", "runs"]


def test_facts_are_those_of_the_models_shown(make_data: Make, zoo: Zoo) -> None:
    data = make_data(augmentations=[NearDuplicate()], label="task", value="test_accuracy")
    for step in range(3):
        views = data.views(step)
        sides = views.split(torch.tensor(recognised(zoo, views.pairs)))
        for models, facts in zip(sides, (views.facts, views.partners), strict=True):
            rows, train = zoo.rows.loc[models.tolist()], data.train.rows
            for numbers, column in ((facts.groups, "recipe"), (facts.labels, "task")):
                known = sorted(train[column].unique())
                assert [known[number] for number in numbers] == rows[column].tolist()
            scores = (rows["test_accuracy"] - train["test_accuracy"].mean()) / train["test_accuracy"].std(ddof=0)
            torch.testing.assert_close(facts.values, torch.tensor(scores.tolist()), atol=1e-6, rtol=0)
        assert not torch.equal(views.facts.values, views.partners.values)
        share = views.share(1, 2)
        assert all(map(torch.equal, vars(share.facts).values(), vars(views.facts).values()))
    plain = make_data().views(0).facts
    assert (plain.labels == -1).all() and (plain.values == 0).all()
    by_run = make_data(sampler=SamplerConfig(6, "run"))
    assert torch.equal(by_run.train.facts.groups, by_run.train.kinship.runs)


def test_a_model_without_a_label_has_number_minus_one(make_data: Make, zoo: Zoo) -> None:
    data = make_data(
        zoo=Zoo(zoo.folder, zoo.rows.assign(kind=zoo.rows["task"].where(zoo.rows["epoch"] == 1))), label="kind"
    )
    assert ((data.train.facts.labels == -1) == torch.tensor((data.train.rows["epoch"] == 2).tolist())).all()


@pytest.mark.parametrize("name", ["tusk", "tags"])
def test_an_unknown_label_is_refused(make_data: Make, name: str) -> None:
    with pytest.raises(
        InputError, match=rf"no such label '{name}' in 'loss\.label': expected a column of the manifest"
    ):
        make_data(label=name)


def test_an_unknown_value_is_refused(make_data: Make) -> None:
    with pytest.raises(InputError, match=r"no such loss\.value: got \['task'\], expected numeric columns"):
        make_data(value="task")


def test_a_target_that_some_models_lack_is_refused(make_data: Make, zoo: Zoo) -> None:
    rows = zoo.rows.assign(score=zoo.rows["test_accuracy"].where(zoo.rows["epoch"] == 1))
    with pytest.raises(InputError, match=r"not every model has the regression target 'score': got \d+ of \d+ without"):
        make_data(zoo=Zoo(zoo.folder, rows), targets=["score"])


def one_each(folder: Path) -> Zoo:
    """One model each of nine architectures of eight graphs: the last two differ in what their weights do not show."""
    nodes = [{"name": "mlp", "input_shape": [1, 4, 4], "outputs": 3, "activation": "tanh", "hidden": [width]}
             for width in range(2, 9)]  # fmt: skip
    nodes += [{"name": "mlp", "input_shape": [1, 4, 4], "outputs": 3, "activation": name, "hidden": [9]}
              for name in ("gelu", "sigmoid")]  # fmt: skip
    rows = []
    for place, node in enumerate(nodes):
        tensors = initialise(build(node), "normal", torch.tensor([place]))
        write_stack(folder, f"{place}.safetensors", tensors)
        rows.append({"id": f"m{place}", "task": f"t{place}", "run_id": f"r{place}", "recipe": f"c{place}", "epoch": 1,
                     "split": "train", "status": "ok", "architecture_config": json.dumps(node), "architecture": "mlp",
                     "weights_file": f"{place}.safetensors", "weights_index": 0})  # fmt: skip
    return Zoo(folder, pd.DataFrame(rows))


def test_models_of_many_architectures_stand_in_one_batch(make_data: Make, make_module: Make, tmp_path: Path) -> None:
    data = make_data(zoo=one_each(tmp_path), sampler=SamplerConfig(20), augmentations=[Noise(0.1)])
    views = data.views(0)
    assert [len(stack) for stack in views.pairs].count(2) == 7 and [len(stack) for stack in views.pairs].count(4) == 1
    assert len({stack.graph for stack in views.pairs}) == len(data.train.stacks) == 8
    # The stacks, and so the numbers of the models, are in the order of the rows.
    for place, row in enumerate(data.train.rows["id"]):
        stack = data.train.stacks[int(torch.bucketize(torch.tensor(place), data.train.starts[1:], right=True))]
        own = data.zoo.weights(data.zoo.rows[data.zoo.rows["id"] == row])
        at = place - int(data.train.starts[data.train.stacks.index(stack)])
        assert torch.equal(stack.weights[0][at].flatten(), own["1.weight"].flatten())
    module = make_module().eval()
    shares = [views.share(rank, 4) for rank in range(4)]
    whole = torch.stack(views.split(module.embedder.embed(views.pairs)), dim=1)
    for rank, share in enumerate(shares):
        torch.testing.assert_close(torch.stack(share.split(module.embedder.embed(share.pairs)), dim=1), whole[rank::4])


def test_a_budget_in_weights_holds_for_the_views(make_data: Make, tmp_path: Path) -> None:
    zoo = one_each(tmp_path)
    # A model of width n has 20 n + 3 weights and biases, the widest 183.
    data = make_data(zoo=zoo, sampler=SamplerConfig(20, weights=400), augmentations=[Noise(0.1)])
    for step in range(30):
        pairs = data.views(step).pairs
        total = sum(tensor.numel() for stack in pairs for tensor in parts(stack)) // 2
        assert 400 - 183 < total <= 400
    with pytest.raises(InputError, match=r"model 'm[78]' is larger than a batch may be in 'sampler\.weights': got 182, "
                       "expected at least 183"):  # fmt: skip
        make_data(zoo=zoo, sampler=SamplerConfig(20, weights=182))
