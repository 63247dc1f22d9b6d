"""What an experiment's `sweep.yaml` holds, and the manifest of commands that it stands for."""

import itertools
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BeforeValidator, Field

from peace.config import fingerprint, folder
from peace.errors import InputError, did_you_mean
from peace.experiments import experiment_name, experiments_with
from peace.reporting.schema import Checked

Value = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)]


class Step(Checked):
    """One command of an experiment, for which values of its axes it runs, and in how many parts."""

    command: str
    only: dict[str, list[Value]] = Field(default_factory=dict)
    once: Literal["seed", "experiment"] | None = None
    shards: Annotated[int, Field(ge=1)] = 1


class SweepSpec(Checked):
    """The content of a `sweep.yaml`."""

    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    words: str = ""
    axes: dict[str, dict[Value, str]] = Field(default_factory=dict)
    steps: Annotated[list[Step], Field(min_length=1)]


@dataclass(frozen=True)
class Task:
    """One line of a manifest.

    Attributes:
        number: Its place, from 1.
        step: Which array it belongs to: tasks of one step do not depend on each other.
        line: The command, as a person would type it.
        after: Numbers of the tasks that must be done before it.
    """

    number: int
    step: int
    line: str
    after: tuple[int, ...]

    @property
    def verb(self) -> str:
        """What the command does: `pretrain` of `peace pretrain …`, `measure` of `python …/measure.py …`."""
        program, *arguments = shlex.split(self.line)
        name = program if program not in ("peace", "python") or not arguments else arguments[0]
        return Path(name).stem

    @property
    def key(self) -> str:
        """A name for files, a pure function of the line."""
        return f"{self.verb}-{fingerprint(self.line)}"


@dataclass(frozen=True)
class _Scope:
    """For which seed and which values of the axes a task runs; None for all of them."""

    seed: int | None
    point: tuple[tuple[str, str], ...] | None

    def meets(self, other: "_Scope") -> bool:
        seeds, points = {self.seed, other.seed} - {None}, {self.point, other.point} - {None}
        return len(seeds) < 2 and len(points) < 2


def manifest(experiment: str, seeds: Sequence[int] | None = None, words: Sequence[str] = ()) -> list[Task]:
    """Returns the commands of an experiment in the order of its steps.

    `experiments/<name>/sweep.yaml` holds `seeds`; `words` for every command of the axes; `axes`, each a mapping from a
    value to the words that it stands for; and `steps`, each with a `command` and optionally `only` (axis -> values for
    which it runs), `once: seed` (without axes, once a seed), `once: experiment` (once in all) or `shards` (for
    `peace embed`: in so many parts, then joined). A command comes after those of earlier steps for the same seed and
    the same values of the axes; what runs once comes after all of them, and before all later ones.

    Args:
        experiment: A folder below `experiments`.
        seeds: Instead of the experiment's own.
        words: `key=value` words added to every command; to the training of a zoo only those that it knows.

    Raises:
        InputError: There is no such experiment, its file is wrong, an axis or value is unknown, or a seed is repeated.
    """
    root = folder("experiments")
    path = root / experiment_name(experiment) / "sweep.yaml"
    if not path.is_file():
        known = experiments_with(root, "sweep.yaml")
        raise InputError(f"no experiment '{experiment}'", where=root, do=did_you_mean(experiment, known))
    spec = _read(path)
    seeds = seeds or spec.seeds
    if len(set(seeds)) < len(seeds):
        raise InputError("a seed stands more than once", where=f"the seeds of '{experiment}'", got=list(seeds))
    tasks: list[Task] = []
    scopes: list[_Scope] = []
    parts = [(step, part) for step in spec.steps for part in _parts(step)]
    for place, (step, part) in enumerate(parts):
        before = list(zip(tasks, scopes, strict=True))
        for scope, line in _lines(experiment, spec, step, seeds):
            after = tuple(task.number for task, other in before if scope.meets(other))
            for ending in part:
                tasks.append(Task(len(tasks) + 1, place, " ".join([line, *_given(step, words), *ending]), after))
                scopes.append(scope)
    return tasks


def _read(path: Path) -> SweepSpec:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError("cannot read the sweep", where=path, got=" ".join(str(error).split())) from error
    return SweepSpec.parse(content, path)


def _given(step: Step, words: Sequence[str]) -> list[str]:
    known = ("zoo", "seed", "paths", "tracking")
    if not step.command.startswith("peace zoo train"):
        return [shlex.quote(word) for word in words]
    return [shlex.quote(word) for word in words if word.partition("=")[0].partition(".")[0] in known]


def _parts(step: Step) -> list[list[list[str]]]:
    """The words that end a step's lines: one list of them for each array that the step becomes."""
    if step.shards == 1:
        return [[[]]]
    shards = [[f"embed.shard={shard}/{step.shards}"] for shard in range(1, step.shards + 1)]
    return [shards, [[f"embed.merge={step.shards}"]]]


def _lines(experiment: str, spec: SweepSpec, step: Step, seeds: Sequence[int]) -> Iterator[tuple[_Scope, str]]:
    _require_known(experiment, spec, step)
    if step.once == "experiment":
        yield _Scope(None, None), step.command
        return
    for seed in seeds:
        if step.once == "seed":
            yield _Scope(seed, None), f"{step.command} seed={seed}"
            continue
        for point in itertools.product(*(values.items() for values in spec.axes.values())):
            row = dict(zip(spec.axes, (value for value, _ in point), strict=True))
            if all(row[axis] in values for axis, values in step.only.items()):
                named = [shlex.quote(f"row.{axis}={value}") for axis, value in row.items()]
                given = [text for text in (spec.words, *(text for _, text in point)) if text]
                line = " ".join([step.command, f"experiment={experiment}", *named, f"seed={seed}", *given])
                yield _Scope(seed, tuple(row.items())), line


def _require_known(experiment: str, spec: SweepSpec, step: Step) -> None:
    for axis, values in step.only.items():
        for value in values:
            if value not in spec.axes.get(axis, {}):
                raise InputError(f"unknown value '{value}' of axis '{axis}'", where=f"experiment '{experiment}'",
                                 do=did_you_mean(value, spec.axes.get(axis, {})))  # fmt: skip
