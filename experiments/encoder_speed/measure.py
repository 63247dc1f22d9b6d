"""Times the encoders, part by part, and writes the records.

Words: `seed=0 paths.results=results`, and `part=NAME`, `encoder=NAME` for some parts or encoders only.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import growing_checkpoints
import large_checkpoints
import training_steps

from peace.config import compose, place
from peace.encoders import ENCODERS
from peace.errors import InputError, did_you_mean, run_script

PARTS: dict[str, Callable[[Path, int, Sequence[str]], Iterator[Path]]] = {
    "training": training_steps.records,
    "large": large_checkpoints.records,
    "growing": growing_checkpoints.records,
}
"""Each writes the records of some encoders: root of the records, seed, names of encoders -> paths."""

OF_ONE_ARCHITECTURE = {"feed_forward", "neuron_transformer", "weight_transformer"}
"""Encoders whose sizes are those of one architecture: no default fits what is timed here."""


def timed() -> list[str]:
    """Returns the names of the encoders that are timed."""
    return [name for name in ENCODERS.names() if name not in OF_ONE_ARCHITECTURE]


def main(words: Sequence[str]) -> list[Path]:
    """Measures, writes the records and returns their paths.

    Args:
        words: `key=value` words of `configs/evaluate.yaml`, of which `seed` and `paths.results` are used, and any
            number of `part=NAME` and `encoder=NAME`.

    Raises:
        InputError: There is no such part or encoder.
    """
    words, parts = _chosen(words, "part", list(PARTS))
    words, encoders = _chosen(words, "encoder", timed())
    config = compose("evaluate", words)
    root = place(config, "results") / "records"
    return [path for part in parts for path in PARTS[part](root, config["seed"], encoders)]


def _chosen(words: Sequence[str], key: str, known: list[str]) -> tuple[list[str], list[str]]:
    """The words of other keys, and what this one chooses, which is everything where it is not given."""
    chosen = [word.partition("=")[2] for word in words if word.startswith(f"{key}=")]
    for name in chosen:
        if name not in known:
            raise InputError(f"no {key} '{name}'", where=training_steps.EXPERIMENT, do=did_you_mean(name, known))
    return [word for word in words if not word.startswith(f"{key}=")], chosen or known


if __name__ == "__main__":
    run_script(lambda words: print(*main(words), sep="\n"))
