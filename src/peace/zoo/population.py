"""Populations trained together: all models of one architecture as stacked tensors in one process.

Small networks of linear layers are trained by a compiled loop instead (`peace.zoo.dense`), where no model of the
population has dropout or changed images; which of the two it is moves weights by rounding alone.

Each model has its own seed, task, initialisation, learning rate, weight decay, dropout, share of the training set and
corruption of it, and comes out as if it had been trained alone: everything random is a pure function of its seed, the
epoch and the step (see `peace.seeding`), and no operation mixes models.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from peace import seeding
from peace.datasets.images import ImageData
from peace.datasets.tasks import Task
from peace.zoo import architectures
from peace.zoo.corruptions import NONE, Corruption
from peace.zoo.dense import Dense
from peace.zoo.initialisation import initialise
from peace.zoo.lessons import Lessons
from peace.zoo.optimizers import Optimizer
from peace.zoo.stacked import forward


@dataclass(frozen=True)
class Member:
    """What is a model's own: its task and recipe, and the seed that everything random about it follows from."""

    task: Task
    seed: int
    initialisation: str
    learning_rate: float
    weight_decay: float = 0.0
    dropout: float = 0.0
    train_fraction: float = 1.0
    init_std: float | None = None
    corruption: Corruption = NONE


@dataclass(frozen=True)
class Plan:
    """What the models of a population have in common.

    Attributes:
        architecture: Name and arguments of the architecture, as in `peace.zoo.architectures`.
        optimizer: A name in `Optimizer.NAMES`.
        epochs: Passes over each model's own training set.
        batch_size: Images a step.
        checkpoints: Epochs after which weights and metrics are kept; 0 is the initialisation.
    """

    architecture: dict[str, object]
    optimizer: str
    epochs: int
    batch_size: int
    checkpoints: tuple[int, ...]


_STEPS = 100
"""Steps of small networks from one question whether to stop to the next: a fraction of a second."""

NO_TARGET = -100
"""What stands for the class of an image that a model neither learns from nor is tested on."""


@dataclass(frozen=True)
class Assignment:
    """Which images each model learns from or is tested on, and what it should call them.

    Attributes:
        indices: Places in the data set, the model's own first. Shape: [M, N] int64.
        counts: How many of them are the model's own. Shape: [M] int64.
        targets: The class of each image of the data set in the model's task, `NO_TARGET` for images that are not its
            own. Shape: [M, images] int16.
    """

    indices: Tensor
    counts: Tensor
    targets: Tensor


def assign(members: Sequence[Member], labels: Tensor, n_labels: int, training: bool) -> Assignment:
    """Returns the members' images among those with these labels, in training cut to each train fraction.

    Args:
        members: The M models.
        labels: Shape [N] int64.
        n_labels: Number of labels in the data set.
        training: Whether train fractions apply; the images kept are drawn by the model's seed.
    """
    chosen, targets = [], torch.full((len(members), len(labels)), NO_TARGET, dtype=torch.int16)
    for row, member in enumerate(members):
        own, classes = member.task.select(labels, n_labels)
        if training and member.train_fraction < 1:
            count = max(1, round(member.train_fraction * len(own)))
            order = seeding.permutations(seeding.keys([member.seed], "train fraction"), len(own))[0]
            kept = order[:count].sort().values
            own, classes = own[kept], classes[kept]
        targets[row, own] = classes.to(torch.int16)
        chosen.append(own)
    counts = torch.tensor([len(own) for own in chosen])
    return Assignment(torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True), counts, targets)


@dataclass
class Position:
    """Where a training stands: `step` steps into `epoch` (counted from 0), weights and optimiser as they are there."""

    weights: Tensor
    optimizer: Optimizer
    epoch: int = 0
    step: int = 0


class Population:
    """M models in training together.

    Args:
        plan: What they have in common.
        members: What is each one's own.
        data: The data set that all tasks are part of.
        dtype: Type of weights and images.
    """

    def __init__(
        self, plan: Plan, members: Sequence[Member], data: ImageData, dtype: torch.dtype = torch.float32
    ) -> None:
        self.plan, self.members, self.data, self.dtype = plan, tuple(members), data, dtype
        self.module = architectures.build(plan.architecture)
        self.shapes = {name: tuple(value.shape) for name, value in self.module.named_parameters()}
        self.seeds = torch.tensor([member.seed for member in members])
        self.train = assign(self.members, data.y_train, len(data.classes), training=True)
        self.test = assign(self.members, data.y_test, len(data.classes), training=False)
        self.pixels = data.x_train.flatten(1).to(dtype)
        self.image_shape = data.x_train.shape[1:]
        self.lessons = self._lessons()
        self.dropout = self._column("dropout")
        self.drops = bool(self.dropout.any())
        plain = not self.drops and not self.lessons.change_images
        self.dense = Dense.of(self.module, plan.optimizer, plan.batch_size) if plain else None

    def _lessons(self) -> Lessons:
        corruptions, seeds = ([getattr(member, name) for member in self.members] for name in ("corruption", "seed"))
        greys = (float(self.pixels.min()), float(self.pixels.max()))
        outputs = int(self.plan.architecture["outputs"])  # type: ignore[call-overload]
        return Lessons(corruptions, seeds, self.train.indices, self.train.counts, self.train.targets, outputs, greys)

    def _column(self, name: str) -> Tensor:
        return torch.tensor([getattr(member, name) for member in self.members], dtype=self.dtype)[:, None]

    @property
    def steps(self) -> int:
        """Steps of an epoch for the model with the most images; the others rest at the end of an epoch."""
        return -(-int(self.train.counts.max()) // self.plan.batch_size)

    def start(self) -> Position:
        """Returns the population before its first step. Weights: [M, P], a row a model, in the module's order."""
        rows: list[Tensor] = [torch.empty(0)] * len(self.members)
        for method in sorted({member.initialisation for member in self.members}):
            own = [row for row, member in enumerate(self.members) if member.initialisation == method]
            stds = [self.members[row].init_std for row in own]
            stacked = initialise(self.module, method, self.seeds[own], self.dtype, stds)
            flat = torch.cat([stacked[name].flatten(1) for name in self.shapes], dim=1)
            for row, values in zip(own, flat, strict=True):
                rows[row] = values
        optimizer = Optimizer(self.plan.optimizer, self._column("learning_rate"), self._column("weight_decay"))
        return Position(torch.stack(rows), optimizer)

    def parameters(self, weights: Tensor) -> dict[str, Tensor]:
        """Returns the rows of a weight matrix as stacked parameters. Shape: [M, P] -> [M, *shape] each."""
        sizes = [torch.Size(shape).numel() for shape in self.shapes.values()]
        parts = weights.split(sizes, dim=1)
        return {name: part.unflatten(1, shape) for (name, shape), part in zip(self.shapes.items(), parts, strict=True)}

    def epoch(self, position: Position, stop: Callable[[], bool] = lambda: False) -> Iterator[Position]:
        """Trains to the end of the current epoch; returns early where `stop` says so.

        It yields and asks after each step, where networks are small after a hundred.
        """
        keys = seeding.keys(self.seeds, "order", position.epoch)
        order = seeding.permutations(keys, self.train.indices.shape[1], self.train.counts)
        images = self.train.indices.gather(1, order)
        # Beyond a model's own images stands any class: the gradient there is multiplied by zero.
        targets = self.lessons.targets.gather(1, images).clamp_(min=0).long()
        size = self.plan.batch_size
        while position.step < self.steps and not stop():
            if self.dense:
                steps = range(position.step, min(position.step + _STEPS, self.steps))
                given = (self.pixels, images, targets, self.train.counts, steps)
                position.weights = self.dense.train(position.weights, position.optimizer, *given)
                position.step = steps.stop
            else:
                part = slice(position.step * size, (position.step + 1) * size)
                self._step(position, images[:, part], targets[:, part])
                position.step += 1
            yield position
        if position.step == self.steps:
            position.epoch, position.step = position.epoch + 1, 0

    def _step(self, position: Position, images: Tensor, targets: Tensor) -> None:
        weights = position.weights.detach().requires_grad_()
        pixels = self.pixels.index_select(0, images.flatten()).view(*images.shape, *self.image_shape)
        if self.lessons.change_images:
            pixels = self.lessons.images(
                pixels, images, lambda rows, moved: self.image_gradient(position.weights[rows], moved, targets[rows])
            )
        mask = self._dropout_mask(position) if self.drops else None
        logits = forward(self.module, self.parameters(weights), pixels, mask).mT
        share, active = self._share(position.step, images.shape[1])
        (gradient,) = torch.autograd.grad(logits, weights, _slope(logits, targets).mul_(share))
        position.weights = position.optimizer.step(weights.detach(), gradient, active)

    def image_gradient(self, weights: Tensor, images: Tensor, targets: Tensor) -> Tensor:
        """Returns the gradient of each image's own loss by its pixels, without dropout.

        Args:
            weights: Of R models. Shape: [R, P].
            images: Shape [R, B, C, H, W].
            targets: Shape [R, B] int64.
        """
        moved = images.detach().requires_grad_()
        logits = forward(self.module, self.parameters(weights.detach()), moved).mT
        return torch.autograd.grad(logits, moved, _slope(logits, targets))[0]

    def _share(self, step: int, batch: int) -> tuple[Tensor | float, Tensor | None]:
        """What an image counts for in its model's mean loss, [M, 1, B], and which models have any left, [M, 1]."""
        size = self.plan.batch_size
        if (step + 1) * size <= int(self.train.counts.min()):
            return 1 / size, None
        left = (self.train.counts - step * size)[:, None]
        share = (torch.arange(batch) < left).to(self.dtype) / left.clamp(1, size)
        return share[:, None], left > 0

    def _dropout_mask(self, position: Position) -> Callable[[int, tuple[int, ...]], Tensor]:
        def mask(place: int, shape: tuple[int, ...]) -> Tensor:
            keys = seeding.keys(self.seeds, "dropout", position.epoch, position.step, place)
            rate = self.dropout.view(-1, *[1] * len(shape))
            return (seeding.uniform(keys, *shape, dtype=self.dtype) >= rate) / (1 - rate)

        return mask


def _slope(logits: Tensor, targets: Tensor) -> Tensor:
    """The gradient of cross-entropy, softmax less one-hot: written down it takes a third of the loss's own backward."""
    one = torch.ones((), dtype=logits.dtype).expand(len(targets), 1, targets.shape[1])
    return logits.detach().softmax(1).scatter_add_(1, targets[:, None], -one)
