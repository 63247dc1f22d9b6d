"""Derives the symmetries of real networks, tests them and writes one record a network.

Words: `seed=0 paths.results=results`, and `network=NAME` for some networks only.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from embedding import distances
from networks import NETWORKS, Network
from preservation import floating, relative_change
from randomisation import NORMS, randomised
from torch import Tensor, nn
from tqdm import tqdm

from peace import provenance, seeding
from peace.config import compose, fingerprint, place
from peace.errors import InputError, did_you_mean, run_script
from peace.graph.derive import derive
from peace.graph.group import GroupAxis, SymmetryGroup
from peace.reporting.record import Metric, write_record

EXPERIMENT = "symmetry_coverage"
ELEMENTS, REPEATS, PASSES, GRACE = 5, 5, 10, 2.0
"""Elements that the function is tested on; timings of which the median counts; passes; seconds granted to deriving."""

_LAYERS = (nn.Linear, nn.modules.conv._ConvNd, nn.RNNBase, nn.MultiheadAttention)


@dataclass(frozen=True)
class Subject:
    """One network under test: random weights in double precision, an example, and the group that was derived."""

    network: Network
    module: nn.Module
    example: Tensor
    group: SymmetryGroup
    generator: torch.Generator
    seed: int

    @classmethod
    def of(cls, name: str, seed: int) -> "Subject":
        """Returns a network by name with weights of a seed."""
        generator = seeding.generator(EXPERIMENT, name, seed)
        module = randomised(NETWORKS[name].build(), generator)
        example = NETWORKS[name].example(generator, torch.float64)
        return cls(NETWORKS[name], module, example, derive(module, example), generator, seed)


def main(words: Sequence[str]) -> list[Path]:
    """Measures, writes the records and returns their paths.

    Args:
        words: `key=value` words of `configs/evaluate.yaml`, of which `seed` and `paths.results` are used, and any
            number of `network=NAME`.

    Raises:
        InputError: There is no such network.
    """
    chosen = [word.removeprefix("network=") for word in words if word.startswith("network=")]
    for name in chosen:
        if name not in NETWORKS:
            raise InputError(f"no network '{name}'", where=EXPERIMENT, do=did_you_mean(name, NETWORKS))
    config = compose("evaluate", [word for word in words if not word.startswith("network=")])
    root, seed = place(config, "results") / "records", config["seed"]
    return [_measured(name, root, seed) for name in tqdm(chosen or NETWORKS, unit=" networks", disable=None)]


def _measured(name: str, root: Path, seed: int) -> Path:
    """Measures one network and writes its record."""
    started = time.perf_counter()
    subject = Subject.of(name, seed)
    metrics = {key: value for measure in MEASURES for key, value in measure(subject).items()}
    group = subject.group
    counts = {
        "parameters": sum(np.prod(shape, dtype=int) for shape in group.shapes.values()),
        "hidden axes": len(hidden(group)), "hidden channels": group.hidden_channels, "elements": ELEMENTS,
    }  # fmt: skip
    notes = {
        "kind": subject.network.kind,
        "pinned": [f"{pin.operation} in {pin.module or 'the module'}: {pin.channels}" for pin in group.pinned],
    }
    config = fingerprint({"network": name, "shape": list(subject.example.shape)})
    return write_record(
        root, EXPERIMENT, {"network": name}, seed, {key: Metric(value) for key, value in metrics.items()}, counts,
        {"zoo": "", "config": config, **provenance.stamp()},
        time.perf_counter() - started, notes,
    )  # fmt: skip


def coverage(subject: Subject) -> dict[str, float]:
    """Returns what the group reaches: shares of axes, channels and parameters, its order, what was not understood."""
    group, axes = subject.group, hidden(subject.group)
    found = {
        "axes_permutable": sum(axis.permutable for axis in axes) / len(axes),
        "channels_permutable": group.permutable_channels / group.hidden_channels,
        "written_permutable": written_permutable(subject.module, group),
        "parameters_moved": statistics.mean(
            group.moved(group.sample(subject.generator)) for _ in range(ELEMENTS)
        ),
        "operations_pinned": float(len(group.pinned)),
        "log10_order": group.log10_order,
    }  # fmt: skip
    if subject.network.kind == "transformer":
        found["blocks_permutable"] = _share([axis for axis in axes if not _normalised(axis, subject.module)])
    return found


def hidden(group: SymmetryGroup) -> list[GroupAxis]:
    """Returns the hidden axes that some tensor touches."""
    return [axis for axis in group.axes if axis.role == "hidden" and axis.tensors]


def written_permutable(module: nn.Module, group: SymmetryGroup) -> float:
    """Returns the share of channels written by layers that may be renumbered, the last layer's outputs left out.

    It counts rows of weights, whatever role the group gives them, so that channels which are held count as held.
    """
    slots, pinned = group.slots, group.nodes.pinned
    held = [node for axis in group.axes if axis.role == "output" for node in _nodes(group, axis)]
    shares: list[np.ndarray] = []
    for name, dim, _, places in slots.parts():
        if dim == _written(module, name):
            nodes = slots.nodes[places]
            shares.append(~pinned[nodes[~np.isin(nodes, held)]])
    return float(np.concatenate(shares).mean())


def _nodes(group: SymmetryGroup, axis: GroupAxis) -> list[int]:
    """Pinned nodes that stand in all tensors of an axis and in no other."""
    touching: dict[int, set[str]] = {}
    for name, _, _, places in group.slots.parts():
        for node in group.slots.nodes[places].tolist():
            touching.setdefault(node, set()).add(name)
    return [node for node, names in touching.items() if group.nodes.pinned[node] and names == set(axis.tensors)]


def _written(module: nn.Module, name: str) -> int | None:
    """The dimension of a layer's weight along which its outputs stand; None for what is no layer's weight."""
    path, _, last = name.rpartition(".")
    owner = module.get_submodule(path)
    if not isinstance(owner, _LAYERS) or "weight" not in last:
        return None
    return 1 if isinstance(owner, nn.modules.conv._ConvTransposeNd) else 0


def _normalised(axis: GroupAxis, module: nn.Module) -> bool:
    """Whether a normalisation stands on an axis: in a transformer that is the residual stream."""
    return any(isinstance(module.get_submodule(name.rpartition(".")[0]), NORMS) for name in axis.tensors)


def _share(axes: Sequence[GroupAxis]) -> float:
    """The share of nodes of some axes that may be renumbered."""
    sizes = [axis.size * axis.copies for axis in axes]
    return sum(size for size, axis in zip(sizes, axes, strict=True) if axis.permutable) / sum(sizes)


def preservation(subject: Subject) -> dict[str, float]:
    """Returns the largest relative change of the function under random elements of the whole group."""
    own = floating(subject.module)
    elements = (subject.group.sample(subject.generator) for _ in range(ELEMENTS))
    changes = [relative_change(subject.module, (subject.example,), element.apply(own)) for element in elements]
    return {"function_error": max(changes)}


def embeddings(subject: Subject) -> dict[str, float]:
    """Returns how far the encoders' embeddings move under symmetries, single precision."""
    other = randomised(subject.network.build(), subject.generator)
    own, apart = ({name: tensor.float() for name, tensor in floating(m).items()} for m in (subject.module, other))
    return distances(subject.group, own, apart, ELEMENTS, subject.generator, subject.seed)


def seconds(subject: Subject) -> dict[str, float]:
    """Returns the seconds of deriving the axes and of ten passes at batch 1 in single precision, and their ratio."""
    module, example = subject.module.float(), subject.example
    example = example.float() if example.is_floating_point() else example

    @torch.no_grad()
    def passes() -> None:
        for _ in range(PASSES):
            module(example)

    deriving, passing = _median(lambda: derive(module, example)), _median(passes)
    return {
        "seconds_to_derive": deriving,
        "seconds_of_passes": passing,
        "ratio": deriving / (passing + GRACE),
    }


def _median(work: Callable[[], object]) -> float:
    """The median of the seconds of some work that was done once before."""
    work()
    found = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


MEASURES: tuple[Callable[[Subject], dict[str, float]], ...] = (coverage, preservation, embeddings, seconds)
"""Each adds metrics to a network's record; `seconds` comes last, since it turns the module to single precision."""


if __name__ == "__main__":
    run_script(lambda words: print(*main(words), sep="\n"))
