"""`peace sweep`: an experiment's axes and seeds as a manifest of commands, printed or run one after the other."""

import itertools
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import yaml

from peace.config import folder
from peace.errors import InputError, PeaceError, did_you_mean


def manifest(experiment: str, seeds: Sequence[int] | None, words: Sequence[str]) -> list[str]:
    """Returns the commands of an experiment, in the order of its steps; each is what a person would type.

    `experiments/<name>/sweep.yaml` holds `seeds`; `axes`, each a mapping from a value to the words that it stands for;
    and `steps`, each with a `command` and optionally `only` (axis -> values for which it runs), `once: seed` (without
    axes, once a seed) or `once: experiment` (once in all).

    Args:
        experiment: A folder under `experiments`.
        seeds: Instead of the experiment's own.
        words: `key=value` words added to every command.

    Raises:
        InputError: There is no such experiment, or an axis or value is unknown.
    """
    path = folder("experiments") / experiment / "sweep.yaml"
    if not path.is_file():
        known = [found.parent.name for found in folder("experiments").glob("*/sweep.yaml")]
        raise InputError(f"no experiment '{experiment}'", where=path.parents[1], do=did_you_mean(experiment, known))
    spec = yaml.safe_load(path.read_text())
    seeds = list(seeds) if seeds else spec["seeds"]
    return [line for step in spec["steps"] for line in _lines(experiment, spec, step, seeds, words)]


def _lines(
    experiment: str, spec: dict[str, Any], step: dict[str, Any], seeds: Sequence[int], words: Sequence[str]
) -> Iterator[str]:
    axes, once = spec.get("axes", {}), step.get("once")
    for axis, values in step.get("only", {}).items():
        for value in values:
            if value not in axes.get(axis, {}):
                raise InputError(f"unknown value '{value}' of axis '{axis}'", where=f"experiment '{experiment}'",
                                 do=did_you_mean(str(value), axes.get(axis, {})))  # fmt: skip
    if once == "experiment":
        yield " ".join([step["command"], *words])
        return
    for seed in seeds:
        if once == "seed":
            yield " ".join([step["command"], f"seed={seed}", *words])
            continue
        for point in itertools.product(*(axes[axis].items() for axis in axes)):
            row = dict(zip(axes, (value for value, _ in point), strict=True))
            if all(row[axis] in values for axis, values in step.get("only", {}).items()):
                named = [f"row.{axis}={value}" for axis, value in row.items()]
                given = [text for _, text in point if text]
                yield " ".join([step["command"], f"experiment={experiment}", *named, f"seed={seed}", *given, *words])


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
        own = program == "peace"
        status = peace(arguments) if own else subprocess.run([program, *arguments], check=False).returncode
        if status:
            raise PeaceError(f"command {place} of {len(lines)} ended with exit code {status}: {line}", exit_code=status)
