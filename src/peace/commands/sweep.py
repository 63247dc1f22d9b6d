"""`peace sweep`: an experiment's axes and seeds as a manifest of commands, printed or run one after the other."""

import itertools
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BeforeValidator, Field

from peace.config import folder
from peace.errors import InputError, PeaceError, did_you_mean
from peace.reporting.schema import Checked

Value = Annotated[str, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)]


class Step(Checked):
    """One command of an experiment, and for which values of its axes it runs."""

    command: str
    only: dict[str, list[Value]] = Field(default_factory=dict)
    once: Literal["seed", "experiment"] | None = None


class SweepSpec(Checked):
    """The content of a `sweep.yaml`."""

    seeds: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    words: str = ""
    axes: dict[str, dict[Value, str]] = Field(default_factory=dict)
    steps: Annotated[list[Step], Field(min_length=1)]


def manifest(experiment: str, seeds: Sequence[int] | None, words: Sequence[str]) -> list[str]:
    """Returns the commands of an experiment, in the order of its steps; each is what a person would type.

    `experiments/<name>/sweep.yaml` holds `seeds`; `words` for every command of the axes; `axes`, each a mapping from a
    value to the words that it stands for; and `steps`, each with a `command` and optionally `only` (axis -> values for
    which it runs), `once: seed` (without axes, once a seed) or `once: experiment` (once in all).

    Args:
        experiment: A folder under `experiments`.
        seeds: Instead of the experiment's own.
        words: `key=value` words added to every command.

    Raises:
        InputError: There is no such experiment, its file is wrong, or an axis or value is unknown.
    """
    path = folder("experiments") / experiment / "sweep.yaml"
    if not path.is_file():
        known = [found.parent.name for found in folder("experiments").glob("*/sweep.yaml")]
        raise InputError(f"no experiment '{experiment}'", where=path.parents[1], do=did_you_mean(experiment, known))
    spec, given = _read(path), [shlex.quote(word) for word in words]
    return [line for step in spec.steps for line in _lines(experiment, spec, step, seeds or spec.seeds, given)]


def _read(path: Path) -> SweepSpec:
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError("cannot read the sweep", where=path, got=" ".join(str(error).split())) from error
    return SweepSpec.parse(content, path)


def _lines(experiment: str, spec: SweepSpec, step: Step, seeds: Sequence[int], words: Sequence[str]) -> Iterator[str]:
    for axis, values in step.only.items():
        for value in values:
            if value not in spec.axes.get(axis, {}):
                raise InputError(f"unknown value '{value}' of axis '{axis}'", where=f"experiment '{experiment}'",
                                 do=did_you_mean(value, spec.axes.get(axis, {})))  # fmt: skip
    if step.once == "experiment":
        yield " ".join([step.command, *words])
        return
    for seed in seeds:
        if step.once == "seed":
            yield " ".join([step.command, f"seed={seed}", *words])
            continue
        for point in itertools.product(*(values.items() for values in spec.axes.values())):
            row = dict(zip(spec.axes, (value for value, _ in point), strict=True))
            if all(row[axis] in values for axis, values in step.only.items()):
                named = [shlex.quote(f"row.{axis}={value}") for axis, value in row.items()]
                given = [text for text in (spec.words, *(text for _, text in point)) if text]
                yield " ".join([step.command, f"experiment={experiment}", *named, f"seed={seed}", *given, *words])


def run(
    experiment: str,
    words: Sequence[str],
    seeds: Sequence[int] | None,
    local: bool,
    peace: Callable[[Sequence[str]], int],
) -> None:
    """Prints the manifest, or runs it here: commands that are done already are quick, so a second call goes on.

    Args:
        experiment: A folder under `experiments`.
        words: `key=value` words added to every command.
        seeds: Instead of the experiment's own.
        local: Whether to run the commands rather than print them.
        peace: Runs a `peace` command in this process, which has loaded torch already, and returns its exit code.

    Raises:
        PeaceError: A command failed.
    """
    lines = manifest(experiment, seeds, words)
    if not local:
        print("\n".join(lines))
        return
    started = time.monotonic()
    for place, line in enumerate(lines, 1):
        print(f"[{place}/{len(lines)}, {time.monotonic() - started:.0f} s] {line}", flush=True)
        program, *arguments = shlex.split(line)
        if program == "peace":
            status = peace(arguments)
        else:
            program = sys.executable if program == "python" else program
            home = folder("experiments").parent
            status = subprocess.run([program, *arguments], cwd=home, check=False).returncode
        if status:
            raise PeaceError(f"command {place} of {len(lines)} ended with exit code {status}: {line}", exit_code=status)
