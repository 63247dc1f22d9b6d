"""How far embeddings move when symmetries act on the weights, beside how far two random initialisations lie apart."""

from collections.abc import Iterable, Iterator, Mapping

import torch
from peace.graph.assembly import from_group
from torch import Tensor, nn

from peace.encoders.layer_gnn import LayerGNN
from peace.encoders.network_gnn import NetworkGNN
from peace.graph.element import Element
from peace.graph.group import SymmetryGroup
from peace.graph.reading import Reading

HIDDEN = 32
"""States' size of the encoders."""

READINGS = {"layer_gnn": Reading(normalise="frobenius"), "network_gnn": Reading()}
"""The encoders and how each reads weights, as in their configs; the canonical form is taken by both."""


def encoders(seed: int) -> dict[str, nn.Module]:
    """Returns untrained encoders of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return {"layer_gnn": LayerGNN(HIDDEN), "network_gnn": NetworkGNN(HIDDEN)}


def embedded(
    encoder: nn.Module, reading: Reading, group: SymmetryGroup, models: Iterable[Mapping[str, Tensor]]
) -> Tensor:
    """Returns the mean tokens of models of one group, in single precision. Shape: [models, D].

    Models are encoded one after the other, so that no more than one of them is in memory.
    """
    graph = from_group(group)
    with torch.no_grad():
        return torch.cat([encoder(reading.of_models(group, graph, [tensors])).mean(1) for tensors in models])


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
    found = {}
    for name, encoder in encoders(seed).items():
        z, apart = embedded(encoder, READINGS[name], group, [own, other])
        drawn = [group.sample(generator, general=False) for _ in range(elements)]
        found[f"{name}_gap"] = gap(z, embedded(encoder, READINGS[name], group, moved(own, drawn)))
        found[f"{name}_gap_of_initialisations"] = gap(z, apart[None])
        if group.generals:
            mapped = embedded(
                encoder, READINGS[name], group, moved(own, (group.sample(generator) for _ in range(elements)))
            )
            found[f"{name}_map_distance"] = float((mapped - z).norm(dim=1).mean() / (apart - z).norm())
    return found
