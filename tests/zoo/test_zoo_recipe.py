"""Recipes: the grid's size, seeds, splits and shards, and refusals that say what is wrong."""

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from peace.config import compose, folder
from peace.datasets.images import names
from peace.errors import InputError
from peace.zoo.recipe import Run, ZooRecipe, held_out_tasks, shards, task_list
from peace.zoo.train import recipe_from

GRID: dict[str, Any] = {
    "name": "test", "seed": 0, "dataset": "tetris", "subset_size": 2, "subset_count": 5, "held_out": 2,
    "architectures": [{"name": "mlp", "hidden": [3]}, {"name": "mlp", "hidden": [4]}], "epochs": 4, "seeds": 3,
    "activations": ["relu", "tanh"], "initialisations": ["uniform", "normal"], "learning_rates": [0.1, 0.2, 0.3],
    "checkpoints": [4, 2, 2],
}  # fmt: skip


def recipe(**change: object) -> ZooRecipe:
    return recipe_from(GRID | change)


def runs(chosen: ZooRecipe) -> list[Run]:
    return [run for shard in shards(chosen) for run in shard.runs]


def test_the_grid_has_every_point_with_every_seed_for_every_task() -> None:
    own = runs(recipe())
    assert len(own) == 2 * 2 * 5 * (2 * 3) * 3
    assert len({run.run_id for run in own}) == len({run.member.seed for run in own}) == len(own)
    assert set(Counter(run.recipe for run in own).values()) == {3}
    assert set(Counter(run.member.task for run in own).values()) == {2 * 2 * 6 * 3}


def test_runs_are_a_function_of_the_recipe_and_its_seed() -> None:
    own = runs(recipe())
    assert own == runs(recipe())
    other = runs(recipe(seed=1))
    assert not {run.run_id for run in own} & {run.run_id for run in other}


def test_only_so_many_points_are_drawn_for_each_task_and_architecture() -> None:
    chosen = [(shard, run) for shard in shards(recipe(points=2)) for run in shard.runs]
    drawn: dict[object, set[object]] = {}
    for shard, run in chosen:
        point = (run.member.initialisation, run.member.learning_rate)
        drawn.setdefault((str(shard.plan.architecture), run.member.task), set()).add(point)
    assert len(chosen) == 2 * 2 * 5 * 2 * 3
    assert {len(points) for points in drawn.values()} == {2}
    assert len({frozenset(points) for points in drawn.values()}) > 5
    assert len(runs(recipe(points=100))) == len(runs(recipe()))


def test_a_range_gives_each_point_a_value_of_its_own() -> None:
    chosen = recipe(points=9, learning_rates={"log_uniform": [0.001, 0.1]}, dropouts={"uniform": [0.0, 0.5]}, seeds=2)
    own = runs(chosen)
    assert len(own) == 2 * 2 * 5 * 9 * 2 and own == runs(chosen)
    for name, low, high in (("learning_rate", 0.001, 0.1), ("dropout", 0.0, 0.5)):
        found = Counter(getattr(run.member, name) for run in own)
        assert set(found.values()) == {2} and low <= min(found) < max(found) <= high
    assert {shard.plan.architecture["dropout"] for shard in shards(chosen)} == {True}


def test_standard_deviations_are_for_the_initialisations_that_take_one() -> None:
    methods = ["normal", "truncated_normal", "orthogonal"]
    own = runs(recipe(initialisations=methods, init_stds={"uniform": [0.1, 0.9]}, points=6))
    assert {run.member.initialisation for run in own if run.member.init_std is None} == {"orthogonal"}
    drawn = [run.member.init_std for run in own if run.member.init_std is not None]
    assert len(drawn) > len(own) / 2 and 0.1 <= min(drawn) < max(drawn) <= 0.9
    first, second = (runs(recipe(initialisations=["normal"], init_stds=[std]))[0] for std in (0.1, 0.2))
    assert first.run_id != second.run_id and first.recipe != second.recipe and first.member.seed != second.member.seed


def test_models_with_as_many_images_share_shards() -> None:
    found = shards(recipe(train_fractions=[0.5, 1.0, 0.25], shard_size=90, held_out=0, subset_size=None))
    assert [sorted({run.member.train_fraction for run in shard.runs}) for shard in found[:1]] == [[0.25, 0.5, 1.0]]
    parted = shards(recipe(train_fractions=[0.5, 1.0, 0.25], shard_size=18, held_out=0, subset_size=None))
    assert [{run.member.train_fraction for run in shard.runs} for shard in parted[:3]] == [{0.25}, {0.5}, {1.0}]


def test_a_first_seed_gives_every_point_the_same_literal_seeds() -> None:
    own = runs(recipe(first_seed=7))
    assert Counter(run.member.seed for run in own) == {seed: len(own) // 3 for seed in (7, 8, 9)}


def test_held_out_tasks_are_tested_on_only_and_the_others_split_by_run() -> None:
    chosen = recipe(seeds=10, checkpoints=None)
    tasks = task_list(chosen)
    assert len({task.id for task in tasks}) == 5 and all(len(task.groups) == 2 for task in tasks)
    splits: dict[str, Counter[str]] = {}
    for run in runs(chosen):
        splits.setdefault(run.member.task.id, Counter())[run.split] += 1
    assert all(set(splits[task.id]) == {"test"} for task in tasks[3:])
    seen = sum((splits[task.id] for task in tasks[:3]), Counter())
    assert all(set(splits[task.id]) == {"train", "val", "test"} for task in tasks[:3])
    total = seen.total()
    for split, share in (("train", 0.7), ("val", 0.15), ("test", 0.15)):
        assert abs(seen[split] / total - share) < 4 * (share * (1 - share) / total) ** 0.5


def test_shares_of_zero_leave_all_to_training() -> None:
    assert {run.split for run in runs(recipe(held_out=0, val_share=0, test_share=0))} == {"train"}


def test_shards_hold_one_architecture_and_no_more_models_than_allowed() -> None:
    found = shards(recipe(shard_size=40))
    assert [len(shard.runs) for shard in found] == [40, 40, 10] * 4
    assert len({shard.file for shard in found}) == len(found)
    assert found[0].file.startswith("mlp-3-2-relu-adam-") and found[0].file.endswith("-000.safetensors")
    assert {shard.plan.checkpoints for shard in found} == {(2, 4)}
    assert {str(shard.plan.architecture) for shard in found[:3]} == {str(found[0].plan.architecture)}
    by_size = [run for shard in found for run in shard.runs]
    assert by_size == runs(recipe())


def test_architectures_of_equal_widths_do_not_share_a_file() -> None:
    nodes = [{"name": "cnn", "channels": [2], "kernels": [kernel], "pools": [1], "hidden": []} for kernel in (2, 3)]
    files = [shard.file for shard in shards(recipe(architectures=nodes, activations=["relu"]))]
    assert len(set(files)) == 2


def test_every_epoch_is_kept_by_default() -> None:
    assert recipe(checkpoints=None).kept_epochs == (1, 2, 3, 4)
    assert recipe(checkpoints=[0]).kept_epochs == (0,)
    assert recipe(epochs=0, checkpoints=[0]).kept_epochs == (0,)


def test_dropout_layers_stand_there_for_all_where_one_model_needs_them() -> None:
    assert {shard.plan.architecture["dropout"] for shard in shards(recipe(dropouts=[0.0, 0.3]))} == {True}
    assert {shard.plan.architecture["dropout"] for shard in shards(recipe())} == {False}


def test_tasks_may_be_named_or_be_the_whole_data_set() -> None:
    named = recipe(tasks=["tetris:0|1", "tetris:2|0,3"], subset_size=None, held_out=1)
    assert [task.id for task in task_list(named)] == ["tetris:0|1", "tetris:2|0,3"]
    whole = recipe(subset_size=None, held_out=0)
    assert [task.id for task in task_list(whole)] == ["tetris"]
    assert shards(whole)[0].plan.architecture["outputs"] == 4


def test_corruptions_are_an_axis_and_sound_models_stay_as_they_were() -> None:
    sound, nodes = runs(recipe()), [{"name": "none"}, {"name": "label_noise", "rate": 0.2}, {"name": "shuffled"}]
    own = runs(recipe(corruptions=nodes))
    assert Counter(run.member.corruption.name for run in own) == {
        "none": len(sound), "label_noise": len(sound), "shuffled": len(sound),
    }  # fmt: skip
    assert [run for run in own if run.member.corruption.name == "none"] == sound
    assert len({run.member.seed for run in own}) == len({run.run_id for run in own}) == len(own)
    assert set(Counter(run.recipe for run in own).values()) == {3}
    other = runs(recipe(corruptions=[{"name": "label_noise", "rate": 0.3}]))
    assert not {run.recipe for run in own} & {run.recipe for run in other}


def test_ids_are_those_of_before_corruptions_and_forms() -> None:
    """Taken from the recipe as it was when a run's id knew neither; zoos and records name models by them."""
    then = ["zoo=tetris_seed", "zoo.initialisations=[uniform]", "zoo.batch_size=4"]
    first = runs(recipe_from(compose("zoo", then)["zoo"]))[0]
    assert (first.run_id, first.recipe, first.split) == ("9bc476bb36eb", "5d30ce4f58d0", "train")


def test_several_data_sets_have_tasks_and_held_out_ones_each() -> None:
    chosen = recipe(dataset=["digits", "tetris"], image_size=4, shard_size=40, test_per_class=30)
    tasks = task_list(chosen)
    assert [task.dataset for task in tasks] == ["digits"] * 5 + ["tetris"] * 5
    assert held_out_tasks(chosen, tasks) == {*tasks[3:5], *tasks[8:]}
    found = shards(chosen)
    assert [(shard.dataset, len(shard.runs)) for shard in found[:6]] == [
        (name, size) for name in ("digits", "tetris") for size in (40, 40, 10)
    ]
    assert len({shard.file for shard in found}) == len(found)
    for shard in found:
        assert {run.member.task.dataset for run in shard.runs} == {shard.dataset}
        assert shard.plan.architecture["input_shape"] == [1, 4, 4]
    held_out = {run.split for shard in found for run in shard.runs if run.member.task in (tasks[4], tasks[9])}
    assert held_out == {"test"}


def test_tasks_may_be_named_of_several_data_sets() -> None:
    names = ["tetris:0|1", "digits:3|4", "tetris:2|3"]
    chosen = recipe(dataset=["digits", "tetris"], image_size=8, tasks=names, held_out=0)
    assert [task.id for task in task_list(chosen)] == ["digits:3|4", "tetris:0|1", "tetris:2|3"]


def test_what_images_are_made_of_them_is_part_of_a_run() -> None:
    plain, small = runs(recipe()), runs(recipe(train_per_class=20))
    assert not {run.recipe for run in plain} & {run.recipe for run in small}
    assert [run.member.seed for run in plain] == [run.member.seed for run in small]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"epoch": 3}, "unknown key 'epoch' in zoo 'test'; did you mean 'epochs'"),
        ({"epochs": "many"}, "wrong type in zoo 'test', key 'epochs'"),
        (
            {"checkpoints": [5]},
            r"checkpoints outside the training in zoo 'test': got \(5,\), expected epochs from 0 to 4",
        ),
        ({"checkpoints": [-1, 2]}, "checkpoints outside the training"),
        ({"epochs": 0, "checkpoints": None}, "checkpoints outside the training"),
        ({"val_share": 0.5, "test_share": 0.5}, "nothing left to train on"),
        ({"val_share": -0.1}, "out of range in zoo 'test', key 'val_share': got -0.1, expected at least 0"),
        ({"learning_rates": []}, "an empty list in zoo 'test', key 'learning_rates'"),
        ({"architectures": []}, "an empty list in zoo 'test', key 'architectures'"),
        ({"learning_rates": [0.1, float("nan")]}, "out of range in zoo 'test', key 'learning_rates'"),
        ({"dropouts": [1.0]}, "out of range in zoo 'test', key 'dropouts'"),
        ({"train_fractions": [0.0]}, "out of range in zoo 'test', key 'train_fractions'"),
        ({"batch_size": 0}, "out of range in zoo 'test', key 'batch_size'"),
        ({"shard_size": 0}, "out of range in zoo 'test', key 'shard_size'"),
        ({"seeds": 0}, "out of range in zoo 'test', key 'seeds'"),
        ({"corruptions": []}, "an empty list in zoo 'test', key 'corruptions'"),
        ({"dataset": []}, "an empty list in zoo 'test', key 'dataset'"),
        ({"image_size": 0}, "out of range in zoo 'test', key 'image_size'"),
        ({"points": 0}, "out of range in zoo 'test', key 'points'"),
        ({"learning_rates": {"log_uniform": [0.1, 0.2]}}, "a range without a number of points .*; set points"),
        (
            {"learning_rates": {"log_unifrom": [0.1, 0.2]}, "points": 3},
            "unknown range 'log_unifrom' in zoo 'test', key",
        ),
        ({"dropouts": {"uniform": [0.1, 1.2]}, "points": 3}, "out of range in zoo 'test', key 'dropouts': got 1.2"),
        ({"learning_rates": {"uniform": "wide"}, "points": 3}, "wrong type in zoo 'test', key 'learning_rates'"),
        ({"init_stds": [0.0]}, "out of range in zoo 'test', key 'init_stds'"),
        ({"optimizers": ["adma"]}, "unknown name 'adma' in zoo 'test', key 'optimizers'; did you mean 'adam'"),
        ({"initialisations": ["kaimin_normal"]}, "did you mean 'kaiming_normal'"),
        ({"activations": ["rleu"]}, "did you mean 'relu'"),
    ],
)
def test_a_senseless_recipe_is_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        recipe(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"dataset": "tetriss"}, "no data set 'tetriss'"),
        ({"held_out": 5}, "no task left to train on in zoo 'test': got 5 of 5 held out"),
        ({"tasks": ["digits:0|1"], "held_out": 0}, "tasks of another data set"),
        ({"tasks": ["tetris:0|1", "tetris:0|1|2"], "held_out": 0}, "tasks of different numbers of classes"),
        ({"tasks": ["tetris:0|1", "tetris:0|1"], "held_out": 0}, "the same model more than once in zoo 'test'"),
        ({"learning_rates": [0.1, 0.1], "first_seed": 1}, "the same model more than once"),
        (
            {"architectures": [{"name": "mlp", "hiden": [3]}]},
            "unknown key 'hiden' in architecture 'mlp'; did you mean 'hidden'",
        ),
        ({"architectures": [{"name": "mlp", "activation": "tanh"}]}, "unknown key 'activation'"),
        ({"architectures": [{"name": "cnn"}]}, "cnn leaves nothing of the image"),
        ({"dataset": ["tetris", "digits"]}, "images of different shapes in zoo 'test': .*; set image_size"),
        ({"train_per_class": 1000}, "too few images of a class in data set 'tetris'"),
        ({"corruptions": [{"name": "backdoor", "target": 2}]}, "no such target class in corruption 'backdoor': got 2"),
        ({"corruptions": [{"name": "label_nose"}]}, "unknown corruption 'label_nose'; did you mean 'label_noise'"),
        ({"corruptions": [{"name": "none"}, {"name": "none"}]}, "the same model more than once"),
    ],
)
def test_a_senseless_grid_is_refused(change: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        shards(recipe(**change))


def test_no_recipe_is_no_zoo() -> None:
    with pytest.raises(InputError, match="no zoo"):
        recipe_from("demo")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="missing key 'epochs' in zoo 'test'"):
        recipe_from({key: value for key, value in GRID.items() if key != "epochs"})


@pytest.mark.parametrize("name", sorted(path.stem for path in (folder("configs") / "zoo").glob("*.yaml")))
def test_every_config_makes_a_zoo(name: str) -> None:
    chosen = recipe_from(compose("zoo", [f"zoo={name}", "seed=3"])["zoo"])
    assert (chosen.name, chosen.seed) == (name, 3)
    # The first of many drawn points; tens of thousands take seconds.
    chosen = chosen if chosen.points is None else replace(chosen, points=min(chosen.points, 60))
    if set(chosen.datasets) <= set(names()):
        own = runs(chosen)
        assert len({run.run_id for run in own}) == len(own) > 0
        assert "train" in {run.split for run in own}
    else:
        # Its images are files; the rest of the grid is the same over data that is there.
        own = runs(replace(chosen, dataset="digits", image_size=28, train_per_class=None, test_per_class=None,
                           tasks=None, subset_size=None, held_out=0))  # fmt: skip
        assert len({run.run_id for run in own}) == len(own) > 0


def test_tetris_seed_is_the_published_zoo() -> None:
    found = shards(recipe_from(compose("zoo", ["zoo=tetris_seed"])["zoo"]))
    assert [run.member.seed for shard in found for run in shard.runs] == list(range(1, 1001))
    assert {len(shard.plan.checkpoints) for shard in found} == {shard.plan.epochs for shard in found} == {75}


def test_tetris_hyp_is_the_published_grid_with_a_hundred_seeds() -> None:
    found = shards(recipe_from(compose("zoo", ["zoo=tetris_hyp"])["zoo"]))
    points = Counter((shard.plan.architecture["activation"], run.member.initialisation, run.member.learning_rate)
                     for shard in found for run in shard.runs)  # fmt: skip
    assert len(points) == 2 * 6 * 3 and set(points.values()) == {100}
    assert len(found) > 2 and {run.member.seed for shard in found for run in shard.runs} == set(range(1, 101))


@pytest.mark.parametrize("name", ["mnist_hyp_1_fix_seed", "mnist_hyp_5_rand_seed", "mnist_hyp_5_fix_seed"])
def test_small_zoos_have_every_activation_and_optimiser_as_often(name: str) -> None:
    chosen = compose("zoo", [f"zoo={name}_small"])["zoo"] | {"dataset": "digits", "image_size": 28}
    own = [(shard, run) for shard in shards(recipe_from(chosen)) for run in shard.runs]
    assert len(own) == 320
    kinds = Counter((shard.plan.architecture["activation"], shard.plan.optimizer) for shard, _ in own)
    assert len(kinds) == 8 and set(kinds.values()) == {40}
    seeds = {run.member.seed for _, run in own}
    assert seeds == {"1_fix": {42}, "5_fix": {1, 2, 3, 4, 5}}.get(name[10:15], seeds)
    assert len(seeds) == 320 or "fix" in name


def test_the_small_cnn_zoo_varies_seven_factors_and_one_architecture_serves_every_data_set() -> None:
    for name in ("mnist_hyp", "fashion_hyp", "cifar10_hyp", "svhn_hyp", "usps_hyp"):
        for size in ("", "_small") if name != "svhn_hyp" else ("",):
            node = compose("zoo", [f"zoo={name}{size}"])["zoo"]
            assert node["architectures"] == compose("zoo", ["zoo=mnist_hyp"])["zoo"]["architectures"]
    found = shards(recipe_from(node | {"dataset": "digits", "image_size": 28, "train_per_class": None}))
    own = [run for shard in found for run in shard.runs]
    assert len(own) == 360 and {len(shard.runs) for shard in found} == {15}
    kinds = Counter((shard.plan.architecture["activation"], shard.plan.optimizer) for shard in found)
    assert len(kinds) == 6 and set(kinds.values()) == {4}
    assert set(Counter((run.member.initialisation, run.member.train_fraction) for run in own).values()) == {18}
    assert {run.member.seed for run in own} == {42}
    for factor in ("learning_rate", "weight_decay", "dropout"):
        assert len({getattr(run.member, factor) for run in own}) == 360
