"""A zoo's recipe: the grid of tasks, architectures and hyper-parameters; every point is trained with some seeds."""

import itertools
import math
import random
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from peace import seeding
from peace.config import fingerprint
from peace.datasets import images
from peace.datasets.tasks import Task, label_subsets
from peace.errors import InputError, did_you_mean
from peace.zoo.architectures import ACTIVATIONS, ARCHITECTURES, short_name
from peace.zoo.initialisation import INITIALISATIONS
from peace.zoo.optimizers import Optimizer
from peace.zoo.population import Member, Plan

_AT_LEAST_1: tuple[Callable[[float], bool], str] = (lambda number: number >= 1, "at least 1")
_AT_LEAST_0: tuple[Callable[[float], bool], str] = (lambda number: 0 <= number < math.inf, "at least 0")
_RANGES = {
    **dict.fromkeys(("seeds", "subset_count", "points", "batch_size", "shard_size"), _AT_LEAST_1),
    **dict.fromkeys(("epochs", "held_out", "learning_rates", "weight_decays", "val_share", "test_share"), _AT_LEAST_0),
    "dropouts": (lambda number: 0 <= number < 1, "at least 0 and below 1"),
    "train_fractions": (lambda number: 0 < number <= 1, "above 0 and at most 1"),
}
_NAMES: dict[str, Collection[str]] = {
    "activations": ACTIVATIONS,
    "optimizers": Optimizer.NAMES,
    "initialisations": INITIALISATIONS,
}


@dataclass(frozen=True)
class ZooRecipe:
    """What `peace zoo train` is given.

    Attributes:
        name: The zoo's name.
        seed: Seed of everything that the recipe draws.
        dataset: The data set.
        architectures: Nodes of `ARCHITECTURES` without input shape, outputs and activation.
        epochs: Passes over the training set.
        seeds: Models per point of the grid.
        first_seed: If given, seeds are literally `first_seed`, `first_seed + 1`, ..., the same at each point; otherwise
            each model has a seed of its own, so that no two share an initialisation.
        checkpoints: Epochs whose weights are kept (0 is the initialisation); None keeps every epoch from 1 on.
        tasks: Task ids; None for drawn label subsets (or, without a subset size, the whole data set).
        subset_size: Labels in a drawn task.
        subset_count: Number of drawn tasks.
        held_out: How many of the tasks, the last ones, are kept out of `train` and `val` entirely.
        activations, optimizers, initialisations, learning_rates, weight_decays, dropouts, train_fractions: The axes.
        points: If given, only so many points of the grid, drawn at random for each task and architecture.
        batch_size: Images a step.
        val_share: Share of the runs (of tasks that are not held out) in `val`.
        test_share: Share of them in `test`.
        shard_size: Most models trained together and stored in one file.
    """

    name: str
    seed: int
    dataset: str
    architectures: list[dict[str, Any]]
    epochs: int
    seeds: int = 1
    first_seed: int | None = None
    checkpoints: list[int] | None = None
    tasks: list[str] | None = None
    subset_size: int | None = None
    subset_count: int = 1
    held_out: int = 0
    activations: list[str] = field(default_factory=lambda: ["relu"])
    optimizers: list[str] = field(default_factory=lambda: ["adam"])
    initialisations: list[str] = field(default_factory=lambda: ["kaiming_uniform"])
    learning_rates: list[float] = field(default_factory=lambda: [1e-3])
    weight_decays: list[float] = field(default_factory=lambda: [0.0])
    dropouts: list[float] = field(default_factory=lambda: [0.0])
    train_fractions: list[float] = field(default_factory=lambda: [1.0])
    points: int | None = None
    batch_size: int = 32
    val_share: float = 0.15
    test_share: float = 0.15
    shard_size: int = 1024

    def __post_init__(self) -> None:
        """Refuses empty axes, numbers out of range, unknown names, and checkpoints outside the training."""
        for key, value in asdict(self).items():
            self._check(key, value if isinstance(value, list) else [value])
        kept = self.kept_epochs
        if not kept or min(kept) < 0 or max(kept) > self.epochs:
            raise InputError("checkpoints outside the training", where=f"zoo '{self.name}'", got=kept,
                             expected=f"epochs from 0 to {self.epochs}")  # fmt: skip
        if self.val_share + self.test_share >= 1:
            got = f"val_share + test_share = {self.val_share + self.test_share}"
            raise InputError("nothing left to train on", where=f"zoo '{self.name}'", got=got, expected="below 1")

    def _check(self, key: str, values: list[Any]) -> None:
        where = f"zoo '{self.name}', key '{key}'"
        if not values:
            raise InputError("an empty list", where=where, expected="at least one value")
        inside, expected = _RANGES.get(key, (lambda _: True, ""))
        for value in values:
            if value is not None and not inside(value):
                raise InputError("a number out of range", where=where, got=value, expected=expected)
            if key in _NAMES and value not in _NAMES[key]:
                raise InputError(f"unknown name '{value}'", where=where, do=did_you_mean(value, _NAMES[key]))

    @property
    def kept_epochs(self) -> tuple[int, ...]:
        """The epochs whose weights are kept."""
        return tuple(range(1, self.epochs + 1)) if self.checkpoints is None else tuple(sorted(set(self.checkpoints)))


@dataclass(frozen=True)
class Run:
    """One training of the grid: a member, and what its record needs to know."""

    member: Member
    recipe: str
    run_id: str
    split: str


@dataclass(frozen=True)
class Shard:
    """Runs that train together and are stored in one file."""

    file: str
    plan: Plan
    runs: tuple[Run, ...]


def task_list(recipe: ZooRecipe) -> list[Task]:
    """Returns the zoo's tasks; the last `held_out` are the held-out ones.

    Raises:
        InputError: Tasks are of another data set or differ in their number of classes, or all are held out.
    """
    data = images.load(recipe.dataset)
    if recipe.tasks is not None:
        tasks = [Task.parse(text) for text in recipe.tasks]
        if {task.dataset for task in tasks} != {recipe.dataset}:
            raise InputError("tasks of another data set", where=f"zoo '{recipe.name}'",
                             got=recipe.tasks, expected=f"tasks of '{recipe.dataset}'")  # fmt: skip
    elif recipe.subset_size is not None:
        tasks = label_subsets(recipe.dataset, len(data.classes), recipe.subset_size, recipe.subset_count, recipe.seed)
    else:
        tasks = [Task(recipe.dataset, ())]
    if len({task.n_classes(data) for task in tasks}) > 1:
        raise InputError("tasks of different numbers of classes", where=f"zoo '{recipe.name}'",
                         got=[task.id for task in tasks], do="make one zoo for each number")  # fmt: skip
    if recipe.held_out >= len(tasks):
        raise InputError("no task left to train on", where=f"zoo '{recipe.name}'",
                         got=f"{recipe.held_out} of {len(tasks)} held out", expected="fewer")  # fmt: skip
    return tasks


def shards(recipe: ZooRecipe) -> list[Shard]:
    """Returns every run of the recipe, grouped into what trains together and is stored in one file.

    Raises:
        InputError: The data set, a task or an architecture makes no sense, or a point of the grid is given twice.
    """
    data, tasks = images.load(recipe.dataset), task_list(recipe)
    held_out = {task.id for task in tasks[len(tasks) - recipe.held_out :]}
    found = []
    groups = itertools.product(recipe.architectures, recipe.activations, recipe.optimizers)
    for node, activation, optimizer in groups:
        given = {"input_shape": list(data.x_train.shape[1:]), "outputs": tasks[0].n_classes(data)}
        config = {**node, "activation": activation, **given, "dropout": max(recipe.dropouts) > 0}
        ARCHITECTURES.check(node, "activation", "dropout", *given)
        ARCHITECTURES.build(config)
        plan = Plan(config, optimizer, recipe.epochs, recipe.batch_size, recipe.kept_epochs)
        runs = [_run(recipe, plan, member, held_out) for task in tasks for member in _members(recipe, plan, task)]
        for number, start in enumerate(range(0, len(runs), recipe.shard_size)):
            file = f"{short_name(config)}-{optimizer}-{fingerprint(config)[:8]}-{number:03d}.safetensors"
            found.append(Shard(file, plan, tuple(runs[start : start + recipe.shard_size])))
    twice = [run for run, count in Counter(run.run_id for shard in found for run in shard.runs).items() if count > 1]
    if twice:
        raise InputError("the same model more than once", where=f"zoo '{recipe.name}'", got=f"{len(twice)} models",
                         do="let no axis, task or architecture stand there twice")  # fmt: skip
    return found


def _members(recipe: ZooRecipe, plan: Plan, task: Task) -> Iterator[Member]:
    regularisers = (recipe.weight_decays, recipe.dropouts, recipe.train_fractions)
    points = list(itertools.product(recipe.initialisations, recipe.learning_rates, *regularisers))
    if recipe.points is not None and recipe.points < len(points):
        draw = random.Random(seeding.key(recipe.seed, "points", task.id, plan.architecture, plan.optimizer))
        points = draw.sample(points, recipe.points)
    for point in points:
        for number in range(recipe.seeds):
            own = seeding.key(recipe.seed, "model", task.id, plan.architecture, plan.optimizer, point, number)
            seed = own if recipe.first_seed is None else recipe.first_seed + number
            yield Member(task, seed, *point)


def _run(recipe: ZooRecipe, plan: Plan, member: Member, held_out: set[str]) -> Run:
    given = {**vars(plan), **vars(member), "task": member.task.id}
    run_id = fingerprint(given)
    draw = seeding.key(recipe.seed, "split", run_id) / 2**63
    if member.task.id in held_out or draw < recipe.test_share:
        split = "test"
    else:
        split = "val" if draw < recipe.test_share + recipe.val_share else "train"
    given.pop("seed")
    return Run(member, fingerprint(given), run_id, split)
