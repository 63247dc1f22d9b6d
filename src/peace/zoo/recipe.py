"""A zoo's recipe: the grid of tasks, architectures and hyper-parameters; every point is trained with some seeds."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from peace import seeding
from peace.config import fingerprint
from peace.datasets.form import Form, load_as
from peace.datasets.tasks import Task, label_subsets
from peace.errors import InputError, did_you_mean
from peace.zoo.architectures import ACTIVATIONS, ARCHITECTURES, short_name
from peace.zoo.axes import Range, check_range, points, values
from peace.zoo.corruptions import CORRUPTIONS, NONE, Corruption
from peace.zoo.initialisation import INITIALISATIONS, WITH_STD
from peace.zoo.optimizers import Optimizer
from peace.zoo.population import Member, Plan

_AT_LEAST_1: tuple[Callable[[float], bool], str] = (lambda number: number >= 1, "at least 1")
_AT_LEAST_0: tuple[Callable[[float], bool], str] = (lambda number: 0 <= number < math.inf, "at least 0")
_RANGES = {
    **dict.fromkeys(("seeds", "subset_count", "points", "batch_size", "shard_size"), _AT_LEAST_1),
    **dict.fromkeys(("image_size", "train_per_class", "test_per_class"), _AT_LEAST_1),
    **dict.fromkeys(("epochs", "held_out", "learning_rates", "weight_decays", "val_share", "test_share"), _AT_LEAST_0),
    "dropouts": (lambda number: 0 <= number < 1, "at least 0 and below 1"),
    "train_fractions": (lambda number: 0 < number <= 1, "above 0 and at most 1"),
    "init_stds": (lambda number: 0 < number < math.inf, "above 0"),
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
        dataset: The data set, or several.
        architectures: Nodes of `ARCHITECTURES` without input shape, outputs and activation.
        epochs: Passes over the training set.
        seeds: Models per point of the grid.
        first_seed: If given, seeds are literally `first_seed`, `first_seed + 1`, ..., the same at each point; otherwise
            each model has a seed of its own, so that no two share an initialisation.
        checkpoints: Epochs whose weights are kept (0 is the initialisation); None keeps every epoch from 1 on.
        image_size: If given, all images are made grey squares of this size, so that no shape betrays the data set.
        train_per_class: If given, only so many training images of each class, the same ones for all models.
        test_per_class: If given, only so many test images of each class.
        tasks: Task ids; None for drawn label subsets (or, without a subset size, the whole data set).
        subset_size: Labels in a drawn task.
        subset_count: Number of drawn tasks of each data set.
        held_out: How many tasks of each data set, the last ones, are kept out of `train` and `val` entirely.
        activations, optimizers, initialisations, learning_rates, weight_decays, dropouts, train_fractions: The axes.
            Those of numbers may be a range such as `{log_uniform: [0.001, 0.1]}`, of which each point draws its own.
        init_stds: One more: standard deviations for initialisations in `WITH_STD`, which others have no use for.
        corruptions: One more: nodes of `CORRUPTIONS`.
        points: If given, only so many points of the grid, drawn at random for each task, architecture, activation and
            optimiser; must be given where an axis is a range.
        batch_size: Images a step.
        val_share: Share of the runs (of tasks that are not held out) in `val`.
        test_share: Share of them in `test`.
        shard_size: Most models trained together and stored in one file.
    """

    name: str
    seed: int
    dataset: str | list[str]
    architectures: list[dict[str, Any]]
    epochs: int
    seeds: int = 1
    first_seed: int | None = None
    checkpoints: list[int] | None = None
    image_size: int | None = None
    train_per_class: int | None = None
    test_per_class: int | None = None
    tasks: list[str] | None = None
    subset_size: int | None = None
    subset_count: int = 1
    held_out: int = 0
    activations: list[str] = field(default_factory=lambda: ["relu"])
    optimizers: list[str] = field(default_factory=lambda: ["adam"])
    initialisations: list[str] = field(default_factory=lambda: ["kaiming_uniform"])
    learning_rates: list[float] | Range = field(default_factory=lambda: [1e-3])
    weight_decays: list[float] | Range = field(default_factory=lambda: [0.0])
    dropouts: list[float] | Range = field(default_factory=lambda: [0.0])
    train_fractions: list[float] | Range = field(default_factory=lambda: [1.0])
    init_stds: list[float | None] | Range = field(default_factory=lambda: [None])
    corruptions: list[dict[str, Any]] = field(default_factory=lambda: [{"name": "none"}])
    points: int | None = None
    batch_size: int = 32
    val_share: float = 0.15
    test_share: float = 0.15
    shard_size: int = 1024

    def __post_init__(self) -> None:
        """Refuses empty axes, numbers out of range, unknown names, and checkpoints outside the training."""
        for key, value in asdict(self).items():
            if isinstance(value, dict):
                self._check_range(key, value)
            self._check(key, values(value))
        kept = self.kept_epochs
        if not kept or min(kept) < 0 or max(kept) > self.epochs:
            raise InputError("checkpoints outside the training", where=f"zoo '{self.name}'", got=kept,
                             expected=f"epochs from 0 to {self.epochs}")  # fmt: skip
        if self.val_share + self.test_share >= 1:
            got = f"val_share + test_share = {self.val_share + self.test_share}"
            raise InputError("nothing left to train on", where=f"zoo '{self.name}'", got=got, expected="below 1")

    def _check_range(self, key: str, axis: Range) -> None:
        where = f"zoo '{self.name}', key '{key}'"
        check_range(axis, where)
        if self.points is None:
            raise InputError("a range without a number of points", where=where, got=axis, do="set points")

    def _check(self, key: str, given: list[Any]) -> None:
        where = f"zoo '{self.name}', key '{key}'"
        if not given:
            raise InputError("an empty list", where=where, expected="at least one value")
        inside, expected = _RANGES.get(key, (lambda _: True, ""))
        for value in given:
            if value is not None and not inside(value):
                raise InputError("a number out of range", where=where, got=value, expected=expected)
            if key in _NAMES and value not in _NAMES[key]:
                raise InputError(f"unknown name '{value}'", where=where, do=did_you_mean(value, _NAMES[key]))

    @property
    def kept_epochs(self) -> tuple[int, ...]:
        """The epochs whose weights are kept."""
        return tuple(range(1, self.epochs + 1)) if self.checkpoints is None else tuple(sorted(set(self.checkpoints)))

    @property
    def datasets(self) -> list[str]:
        """The data sets, each once."""
        return list(dict.fromkeys([self.dataset] if isinstance(self.dataset, str) else self.dataset))

    @property
    def form(self) -> Form:
        """What is made of each data set."""
        return Form(self.image_size, self.train_per_class, self.test_per_class)


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
    dataset: str
    plan: Plan
    runs: tuple[Run, ...]


def task_list(recipe: ZooRecipe) -> list[Task]:
    """Returns the zoo's tasks, data set by data set; see `held_out_tasks`.

    Raises:
        InputError: Tasks are of another data set or differ in their number of classes, or all of one are held out.
    """
    where = f"zoo '{recipe.name}'"
    if not {Task.parse(text).dataset for text in recipe.tasks or ()} <= set(recipe.datasets):
        raise InputError("tasks of another data set", where=where, got=recipe.tasks,
                         expected=f"tasks of {' and '.join(map(repr, recipe.datasets))}")  # fmt: skip
    tasks = [task for dataset in recipe.datasets for task in _tasks_of(recipe, dataset)]
    if len({task.n_classes(load_as(task.dataset, recipe.form)) for task in tasks}) > 1:
        raise InputError("tasks of different numbers of classes", where=where,
                         got=[task.id for task in tasks], do="make one zoo for each number")  # fmt: skip
    return tasks


def _tasks_of(recipe: ZooRecipe, dataset: str) -> list[Task]:
    data = load_as(dataset, recipe.form)
    if recipe.tasks is not None:
        tasks = [task for task in map(Task.parse, recipe.tasks) if task.dataset == dataset]
    elif recipe.subset_size is not None:
        tasks = label_subsets(dataset, len(data.classes), recipe.subset_size, recipe.subset_count, recipe.seed)
    else:
        tasks = [Task(dataset, ())]
    if recipe.held_out >= len(tasks):
        got = f"{recipe.held_out} of {len(tasks)} held out of '{dataset}'"
        raise InputError("no task left to train on", where=f"zoo '{recipe.name}'", got=got, expected="fewer")
    return tasks


def held_out_tasks(recipe: ZooRecipe, tasks: Iterable[Task]) -> set[Task]:
    """Returns which tasks of `task_list` are held out: the last ones of each data set."""
    own = {dataset: [task for task in tasks if task.dataset == dataset] for dataset in recipe.datasets}
    return {task for found in own.values() for task in found[len(found) - recipe.held_out :]}


def shards(recipe: ZooRecipe) -> list[Shard]:
    """Returns every run of the recipe, grouped into what trains together and is stored in one file.

    Raises:
        InputError: The data set, a task, an architecture or a corruption makes no sense, or a point of the grid is
            given twice.
    """
    tasks = task_list(recipe)
    held_out = held_out_tasks(recipe, tasks)
    outputs = tasks[0].n_classes(load_as(tasks[0].dataset, recipe.form))
    given = {"input_shape": _image_shape(recipe), "outputs": outputs}
    corruptions = [CORRUPTIONS.build(node) for node in recipe.corruptions]
    for corruption in corruptions:
        corruption.check(tuple(given["input_shape"]), outputs)
    found = []
    for node, activation, optimizer in itertools.product(recipe.architectures, recipe.activations, recipe.optimizers):
        config = {**node, "activation": activation, **given, "dropout": max(values(recipe.dropouts)) > 0}
        ARCHITECTURES.check(node, "activation", "dropout", *given)
        ARCHITECTURES.build(config)
        plan = Plan(config, optimizer, recipe.epochs, recipe.batch_size, recipe.kept_epochs)
        runs = [_run(recipe, plan, member, member.task in held_out)
                for task in tasks for member in _members(recipe, plan, task, corruptions)]  # fmt: skip
        # Models with as many images end their epochs together: where they share a shard, none of them waits.
        runs.sort(key=lambda run: (recipe.datasets.index(run.member.task.dataset), run.member.train_fraction))
        for number, (dataset, part) in enumerate(_parts(runs, recipe.shard_size)):
            file = f"{short_name(config)}-{optimizer}-{fingerprint(config)[:8]}-{number:03d}.safetensors"
            found.append(Shard(file, dataset, plan, part))
    twice = [run for run, count in Counter(run.run_id for shard in found for run in shard.runs).items() if count > 1]
    if twice:
        raise InputError("the same model more than once", where=f"zoo '{recipe.name}'", got=f"{len(twice)} models",
                         do="let no axis, task, architecture or corruption stand there twice")  # fmt: skip
    return found


def _image_shape(recipe: ZooRecipe) -> list[int]:
    shapes = {name: list(load_as(name, recipe.form).x_train.shape[1:]) for name in recipe.datasets}
    first, *others = shapes.values()
    if any(shape != first for shape in others):
        raise InputError("images of different shapes", where=f"zoo '{recipe.name}'", got=shapes, do="set image_size")
    return first


def _parts(runs: Iterable[Run], size: int) -> Iterator[tuple[str, tuple[Run, ...]]]:
    """Runs of one data set each, at most `size` of them."""
    for dataset, own in itertools.groupby(runs, key=lambda run: run.member.task.dataset):
        while part := tuple(itertools.islice(own, size)):
            yield dataset, part


def _members(recipe: ZooRecipe, plan: Plan, task: Task, corruptions: list[Corruption]) -> Iterator[Member]:
    regularisers = (recipe.weight_decays, recipe.dropouts, recipe.train_fractions)
    axes = (recipe.initialisations, recipe.learning_rates, *regularisers, recipe.init_stds, corruptions)
    draw = seeding.key(recipe.seed, "points", task.id, plan.architecture, plan.optimizer)
    for *point, std, corruption in points(axes, recipe.points, draw):
        std = std if point[0] in WITH_STD else None
        # Without a standard deviation or a corruption the seed is that of a recipe that knows of none.
        named = (*point, *([] if std is None else [std]),
                 *([] if corruption == NONE else [json.dumps(corruption.node, sort_keys=True)]))  # fmt: skip
        for number in range(recipe.seeds):
            own = seeding.key(recipe.seed, "model", task.id, plan.architecture, plan.optimizer, named, number)
            seed = own if recipe.first_seed is None else recipe.first_seed + number
            yield Member(task, seed, *point, init_std=std, corruption=corruption)


def _run(recipe: ZooRecipe, plan: Plan, member: Member, held_out: bool) -> Run:
    given = {**vars(plan), **vars(member), "task": member.task.id}
    corruption, std = given.pop("corruption"), given.pop("init_std")
    # What an older recipe could not say is left out where it is not said, so that its runs keep their ids.
    given |= {} if corruption == NONE else {"corruption": corruption.node}
    given |= {} if std is None else {"init_std": std}
    given |= {} if recipe.form == Form() else {"form": asdict(recipe.form)}
    run_id = fingerprint(given)
    given.pop("seed")
    return Run(member, fingerprint(given), run_id, "test" if held_out else split(recipe, run_id))


def split(recipe: ZooRecipe, run_id: str) -> str:
    """Returns the split of a run whose task is not held out, a function of the recipe's seed and the run alone."""
    draw = seeding.key(recipe.seed, "split", run_id) / 2**63
    if draw < recipe.test_share:
        return "test"
    return "val" if draw < recipe.test_share + recipe.val_share else "train"
