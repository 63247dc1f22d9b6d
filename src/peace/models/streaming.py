"""The embedding of one checkpoint, a layer at a time where the encoder allows it."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from peace.encoders import LayerEncoder
from peace.errors import InputError
from peace.graph.assembly import from_group
from peace.graph.derive import derive
from peace.graph.families.route import rebuild
from peace.graph.layer_reading import read_layers
from peace.graph.layer_roles import TensorRole
from peace.models.embedder import Embedder
from peace.models.loading import single
from peace.zoo.checkpoint import Checkpoint
from peace.zoo.collection import TEXTS
from peace.zoo.stored import StoredWeights

_AT_ONCE = 2


@dataclass(frozen=True, eq=False)
class Embedded:
    """What came of one checkpoint.

    Attributes:
        vector: Its embedding. Shape: [D].
        n_params: How many numbers were read.
        layers: Number of tokens.
        said: What the file's own metadata says of it.
    """

    vector: Tensor
    n_params: int
    layers: int
    said: Mapping[str, str] = field(default_factory=dict)


@torch.no_grad()
def embed_checkpoint(
    embedder: Embedder,
    checkpoint: Checkpoint,
    dtype: torch.dtype = torch.float32,
    told: Callable[[int], object] = lambda read: None,
) -> Embedded:
    """Returns the embedding of a checkpoint.

    To a layer-wise encoder each tensor is a layer of its own, whatever the wiring: it is mapped, read, encoded and let
    go, two at a time and small ones together, so that no more than the two largest are in memory; one at a time where
    the reading normalises, which takes a copy. Scales that only the wiring tells of are not divided out. Any other
    encoder needs the wiring: models of PEACE's own zoos are read as there; of others the module is rebuilt, its
    symmetries derived, and the whole of it read in their canonical form.

    Args:
        embedder: In evaluation mode, of type `dtype`.
        checkpoint: A file or several.
        dtype: The type in which weights are read.
        told: Is given the bytes that were read since it was called last.

    Raises:
        InputError: The weights cannot be read, are not finite or of no known wiring, or the embedding is not finite.
    """
    weights = StoredWeights(checkpoint, dtype)
    by_layer = isinstance(embedder.encoder, LayerEncoder) and embedder.encoder.layer_wise
    tokens = _by_layer(embedder, weights, told) if by_layer else _whole(embedder, checkpoint, weights, told)
    vector = embedder.aggregator(tokens)[0]
    if not vector.isfinite().all():
        raise InputError("the embedding is not finite", where=checkpoint.path, do="check the model's weights")
    said = {key: value for key in TEXTS if (value := checkpoint.metadata.get(key))}
    return Embedded(vector, sum(like.numel() for like in weights.shapes.values()), tokens.shape[1], said)


def _by_layer(embedder: Embedder, weights: StoredWeights, told: Callable[[int], object]) -> Tensor:
    """Tokens of a checkpoint read layer by layer. Shape: [1, L, T]."""
    reading = read_layers(weights.shapes)

    @torch.no_grad()
    def encoded(roles: tuple[TensorRole, ...]) -> Tensor:
        # Without a name of its own, the stack that was read is let go once it is normalised.
        return embedder.encoder(
            embedder.reading(replace(reading, roles=roles).stack({name: weights[name][None] for name in _names(roles)}))
        )

    portions, threads, tokens = list(_portions(reading.layers)), torch.get_num_threads(), []
    # Products with few columns do not gain from a second thread what a second layer gains.
    workers = min(_AT_ONCE if embedder.reading.normalise == "none" else 1, threads)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads // workers,)) as pool:
        try:
            for roles, made in zip(portions, pool.map(encoded, portions), strict=True):
                tokens.append(made)
                told(sum(map(weights.bytes, _names(roles))))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return torch.cat(tokens, dim=1)


def _names(roles: Iterable[TensorRole]) -> list[str]:
    return [name for role in roles for name in (role.name, role.bias) if name]


def _portions(roles: Iterable[TensorRole]) -> Iterator[tuple[TensorRole, ...]]:
    """Yields layers in their order, as many at a time as the second largest is large: small ones cost calls."""
    sizes = {role: role.n_out * role.n_in * role.n_tap for role in roles}
    most, portion, total = min(sorted(sizes.values())[-2:], default=0), [], 0
    for role, size in sizes.items():
        if portion and total + size > most:
            yield tuple(portion)
            portion, total = [], 0
        portion.append(role)
        total += size
    if portion:
        yield tuple(portion)


def _whole(embedder: Embedder, checkpoint: Checkpoint, weights: StoredWeights, told: Callable[[int], object]) -> Tensor:
    """Tokens of a checkpoint whose module is known. Shape: [1, L, T]."""
    rebuilt = rebuild(checkpoint)
    if rebuilt.module is None:
        raise InputError(
            "the wiring is not known, and the encoder reads networks as a whole", where=checkpoint.path,
            got="; ".join(rebuilt.route.others.values()), do="take a layer-wise encoder, such as layer_gnn",
        )  # fmt: skip
    state = rebuilt.fit.renamed(dict(weights))
    told(sum(map(weights.bytes, weights)))
    if (architecture := checkpoint.metadata.get("architecture_config")) is not None:
        return embedder.encoder(embedder.reading(single(architecture, state, weights.dtype)))
    group = derive(rebuilt.module, *rebuilt.inputs)
    return embedder.encoder(embedder.reading.of_models(group, from_group(group), [state], weights.dtype))
