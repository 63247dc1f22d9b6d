"""What each model of a population reaches on its own training and test images."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from peace.zoo.corruptions import Corruption
from peace.zoo.population import NO_TARGET, Assignment, Population
from peace.zoo.stacked import forward

_ELEMENTS = 1 << 20
"""Numbers in the largest intermediate of one chunk: 4 MiB in float32, about what stays in a processor's cache."""


def score(population: Population, weights: Tensor) -> dict[str, Tensor]:
    """Returns loss, accuracy and class-wise F1 on the training and the test images, and the generalisation gap.

    Args:
        population: The models.
        weights: Their weights. Shape: [M, P].

    Returns:
        `train_loss`, `train_accuracy`, `test_loss`, `test_accuracy`, `generalisation_gap` (train less test accuracy),
        each [M]; `train_f1`, `test_f1`, each [M, classes], all on clean images with their true classes; and where some
        of the models are corrupted, what their corruptions measure, [M], NaN for the others. A model with weights that
        are not finite scores NaN.
    """
    data = population.data
    scores = {}
    for part, assignment, images in (("train", population.train, data.x_train), ("test", population.test, data.x_test)):
        loss, accuracy, f1 = _part(population, weights, assignment, images.to(population.dtype))
        scores |= {f"{part}_loss": loss, f"{part}_accuracy": accuracy, f"{part}_f1": f1}
    scores |= _corrupted(population, weights)
    diverged = ~weights.isfinite().all(1)
    scores["generalisation_gap"] = scores["train_accuracy"] - scores["test_accuracy"]
    return {name: value.masked_fill(diverged if value.ndim == 1 else diverged[:, None], torch.nan)
            for name, value in scores.items()}  # fmt: skip


@torch.no_grad()
def _part(
    population: Population, weights: Tensor, assignment: Assignment, images: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    models, classes = len(weights), int(population.plan.architecture["outputs"])  # type: ignore[call-overload]
    loss = torch.zeros(models, dtype=weights.dtype)
    confusion = torch.zeros(models, classes * classes)
    for rows, places in _chunks(models, len(images), _width(population, images)):
        logits = forward(population.module, population.parameters(weights[rows]), images[None, places]).mT
        targets = assignment.targets[rows, places].long()
        losses = F.cross_entropy(logits, targets, ignore_index=NO_TARGET, reduction="none")
        loss[rows] += losses.sum(1)
        pairs = targets.clamp(min=0) * classes + _predicted(logits)
        confusion[rows] = confusion[rows].scatter_add(1, pairs, (targets != NO_TARGET).float())
    matrix = confusion.view(models, classes, classes)
    hits = matrix.diagonal(dim1=1, dim2=2)
    f1 = 2 * hits / (matrix.sum(1) + matrix.sum(2)).clamp(min=1)
    return loss / assignment.counts, hits.sum(1) / assignment.counts, f1


def _corrupted(population: Population, weights: Tensor) -> dict[str, Tensor]:
    """What corruptions measure: shares of the changed test images on which a model did what its corruption counts."""
    found: dict[str, Tensor] = {}
    for kind, rows in population.lessons.rows.items():
        if kind.measure is not None:
            column = found.setdefault(kind.measure, torch.full((len(weights),), torch.nan))
            column[rows] = torch.cat([_hit(population, weights[part], kind, part) for part in _parts(population, rows)])
    return found


def _parts(population: Population, rows: Tensor) -> tuple[Tensor, ...]:
    """The models in blocks whose largest intermediate on all of a model's own test images stays within `_ELEMENTS`."""
    width = _width(population, population.data.x_test.to(population.dtype))
    return rows.split(max(1, _ELEMENTS // (width * population.test.indices.shape[1])))


def _hit(population: Population, weights: Tensor, kind: Corruption, rows: Tensor) -> Tensor:
    places = population.test.indices[rows]
    own = torch.arange(places.shape[1]) < population.test.counts[rows, None]
    targets = population.test.targets[rows].gather(1, places).clamp_(min=0).long()
    images = population.data.x_test[places].to(population.dtype)
    changed = kind.images(
        images, population.lessons.greys, lambda moved: population.image_gradient(weights, moved, targets)
    )
    with torch.no_grad():
        predicted = _predicted(forward(population.module, population.parameters(weights), changed).mT)
    hits, counted = kind.hits(predicted, targets)
    return (hits & own).sum(1) / (counted & own).sum(1)


def _predicted(logits: Tensor) -> Tensor:
    """The place of the largest number along dim 1, the first of equals; torch's argmax takes 30 times longer there."""
    best, place = logits[:, 0], torch.zeros_like(logits[:, 0], dtype=torch.int16)
    for number, candidate in enumerate(logits.unbind(1)):
        place = torch.maximum(place, (candidate > best).to(torch.int16) * number)
        best = torch.maximum(best, candidate)
    return place.long()


def _width(population: Population, images: Tensor) -> int:
    """Numbers of the widest intermediate for one model and one image."""
    sizes = [1]
    x = images[:1]
    with torch.no_grad():
        for layer in population.module.to(images.dtype):
            x = layer(x)
            sizes.append(x[0].numel())
    return max(sizes)


def _chunks(models: int, images: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of models and images whose largest intermediate stays within `_ELEMENTS`."""
    per_block = min(images, max(1, _ELEMENTS // width))
    rows = max(1, _ELEMENTS // (width * per_block))
    for start in range(0, models, rows):
        for first in range(0, images, per_block):
            yield slice(start, min(models, start + rows)), slice(first, min(images, first + per_block))


def as_columns(scores: dict[str, Tensor]) -> list[dict[str, float | Sequence[float]]]:
    """Returns each model's scores as plain numbers and lists, for its record."""
    columns = {name: value.tolist() for name, value in scores.items()}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
