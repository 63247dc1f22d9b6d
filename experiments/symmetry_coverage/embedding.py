"""How far embeddings move when symmetries act on the weights, beside how far two random initialisations lie apart."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor, nn

from peace.encoders.layer_gnn import LayerGNN
from peace.encoders.network_gnn import NetworkGNN
from peace.graph.assembly import from_group
from peace.graph.canonical import frobenius_normalised
from peace.graph.element import Element
from peace.graph.group import SymmetryGroup
from peace.graph.reading import Reading

HIDDEN = 32
"""States' size of the encoders."""

NORMALISED = ("layer_gnn",)
"""Encoders that read Frobenius-normalised weights, as in their configs; the canonical form is taken for both."""


def encoders(seed: int) -> dict[str, nn.Module]:
    """Returns untrained encoders of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {"layer_gnn": LayerGNN(HIDDEN), "network_gnn": NetworkGNN(HIDDEN)}


def embedded(
    encoders: Mapping[str, nn.Module], group: SymmetryGroup, models: Iterable[Mapping[str, Tensor]]
) -> dict[str, Tensor]:
    """Returns the mean tokens of models of one group by encoder, in single precision. Shape of each: [models, D].

    Models are encoded one after the other, so that no more than one of them is in memory.
    """
    graph = from_group(group)
    found: dict[str, list[Tensor]] = {name: [] for name in encoders}
    with torch.no_grad():
        for tensors in models:
            stack = Reading().of_models(group, graph, [tensors])
            for name, encoder in encoders.items():
                found[name].append(encoder(frobenius_normalised(stack) if name in NORMALISED else stack).mean(1))
    return {name: torch.cat(tokens) for name, tokens in found.items()}


def moved(tensors: Mapping[str, Tensor], elements: Iterable[Element]) -> Iterator[Mapping[str, Tensor]]:
    """Yields the tensors after each element."""
    for element in elements:
        yield element.apply(tensors)


def gap(first: Tensor, others: Tensor) -> float:
    """Returns 1 - the smallest cosine of one embedding and others, in double precision. Shapes: [D], [models, D]."""
    return float(1 - nn.functional.cosine_similarity(first.double(), others.double(), dim=-1).min())


def distances(
    group: SymmetryGroup, own: Mapping[str, Tensor], other: Mapping[str, Tensor], elements: int,
    generator: torch.Generator, seed: int,
) -> dict[str, float]:  # fmt: skip
    """Returns how far symmetries move embeddings.

    Args:
        group: Of the network.
        own: Its weights, single precision.
        other: Weights of another random initialisation.
        elements: Number of random elements.
        generator: Draws them.
        seed: Of the encoders.

    Returns:
        By encoder: `gap`, 1 - the smallest cosine of the embeddings of θ and gθ for elements without maps inside heads;
        `gap_of_initialisations`, 1 - the cosine of those of θ and of another initialisation; and where there are heads,
        `map_distance`, the mean distance under elements with maps in units of that of the two initialisations.
    """
    made = encoders(seed)
    start = embedded(made, group, [own, other])
    drawn = (group.sample(generator, general=False) for _ in range(elements))
    after = embedded(made, group, moved(own, drawn))
    found = {}
    for name, (z, apart) in start.items():
        found[f"{name}_gap"] = gap(z, after[name])
        found[f"{name}_gap_of_initialisations"] = gap(z, apart[None])
    if group.generals:
        mapped = embedded(made, group, moved(own, (group.sample(generator) for _ in range(elements))))
        for name, (z, apart) in start.items():
            found[f"{name}_map_distance"] = float((mapped[name] - z).norm(dim=1).mean() / (apart - z).norm())
    return found
