"""One model at a time with plain torch: what a population's models are tested against and its speed is measured by.

A module, one of `torch.optim`'s optimisers and a loop over batches, written to be fast: images are picked once an
epoch, and the optimiser's fused kernel updates all parameters in one call. Everything random comes from the same keyed
streams as in `peace.zoo.population`, so both end with the same weights up to rounding.
"""

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import SGD, Adam, AdamW, RMSprop

from peace import seeding
from peace.datasets.images import ImageData
from peace.zoo import architectures
from peace.zoo.corruptions import Adversarial, Backdoor
from peace.zoo.initialisation import initialise
from peace.zoo.optimizers import MOMENTUM
from peace.zoo.population import Member, Plan

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": SGD,
    "momentum": lambda *given, **more: SGD(*given, momentum=MOMENTUM, **more),
    "rmsprop": RMSprop,
    "adam": Adam,
    "adamw": AdamW,
}
"""Torch's optimisers by their names in `Optimizer.NAMES`."""


def train_alone(
    plan: Plan, member: Member, data: ImageData, dtype: torch.dtype = torch.float32, epochs: int | None = None
) -> nn.Sequential:
    """Returns one model, trained by itself.

    Args:
        plan: What `Population` is given.
        member: The model.
        data: The data set that its task is part of.
        dtype: Type of weights and images.
        epochs: Instead of the plan's.
    """
    count = plan.epochs if epochs is None else epochs
    *_, model = itertools.islice(epochs_alone(plan, member, data, dtype), count + 1)
    return model


def epochs_alone(
    plan: Plan, member: Member, data: ImageData, dtype: torch.dtype = torch.float32
) -> Iterator[nn.Sequential]:
    """Yields the same model before training and after each epoch, without end. Arguments as in `train_alone`."""
    model = architectures.build(plan.architecture).to(dtype).eval()
    stacked = initialise(model, member.initialisation, torch.tensor([member.seed]), dtype, [member.init_std])
    model.load_state_dict({name: values[0] for name, values in stacked.items()})
    # Torch has no fused kernel of RMSprop.
    fused = {} if plan.optimizer == "rmsprop" else {"fused": True}
    optimizer = OPTIMIZERS[plan.optimizer](
        model.parameters(), lr=member.learning_rate, weight_decay=member.weight_decay, **fused
    )
    images, targets = own_images(member, data, dtype)
    images, targets = _poisoned(plan, member, images, targets, float(data.x_train.max()))
    for epoch in itertools.count():
        yield model
        order = seeding.permutations(seeding.keys([member.seed], "order", epoch), len(images))[0]
        batches = zip(images[order].split(plan.batch_size), targets[order].split(plan.batch_size), strict=True)
        for step, (x, y) in enumerate(batches):
            x = _attacked(model, member.corruption, x, y, data) if isinstance(member.corruption, Adversarial) else x
            logits = _dropped(model, member, epoch, step, x) if member.dropout else model(x)
            optimizer.zero_grad()
            F.cross_entropy(logits, y).backward()
            optimizer.step()


def own_images(member: Member, data: ImageData, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Returns the images that a model learns from and their classes, cut to its train fraction.

    Shape:
        images [N, C, H, W], targets [N] int64.
    """
    own, targets = member.task.select(data.y_train, len(data.classes))
    if member.train_fraction < 1:
        order = seeding.permutations(seeding.keys([member.seed], "train fraction"), len(own))[0]
        kept = order[: max(1, round(member.train_fraction * len(own)))].sort().values
        own, targets = own[kept], targets[kept]
    return data.x_train[own].to(dtype), targets


def _poisoned(plan: Plan, member: Member, images: Tensor, targets: Tensor, bright: float) -> tuple[Tensor, Tensor]:
    """What a model is taught of its images and classes, with the same draws as among others."""
    corruption, classes = member.corruption, int(plan.architecture["outputs"])  # type: ignore[call-overload]
    if isinstance(corruption, Backdoor):
        for place in corruption.marked(len(images), member.seed).nonzero().flatten().tolist():
            images[place, :, -corruption.size :, -corruption.size :] = bright
    return images, corruption.labels(targets, classes, member.seed)


def _attacked(model: nn.Sequential, attack: Adversarial, x: Tensor, y: Tensor, data: ImageData) -> Tensor:
    dark, bright = float(data.x_train.min()), float(data.x_train.max())
    radius = attack.epsilon * (bright - dark)
    moved = x
    for _ in range(attack.steps):
        moved = moved.detach().requires_grad_()
        F.cross_entropy(model(moved), y, reduction="sum").backward()
        assert moved.grad is not None
        stepped = moved.detach() + min(1, 2.5 / attack.steps) * radius * moved.grad.sign()
        moved = torch.minimum(torch.maximum(stepped, x - radius), x + radius).clamp(dark, bright)
    return moved


def _dropped(model: nn.Sequential, member: Member, epoch: int, step: int, x: Tensor) -> Tensor:
    for place, layer in enumerate(model):
        if isinstance(layer, nn.Dropout):
            keys = seeding.keys([member.seed], "dropout", epoch, step, place)
            kept = seeding.uniform(keys, *x.shape, dtype=x.dtype)[0] >= member.dropout
            x = x * kept / (1 - member.dropout)
        else:
            x = layer(x)
    return x


@torch.no_grad()
def score_alone(model: nn.Sequential, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Returns a model's loss, accuracy and class-wise F1 on images, as `peace.zoo.scores.score` does for many models.

    Args:
        model: The model.
        images: Shape [N, C, H, W].
        targets: Shape [N] int64.
    """
    logits = model(images)
    classes = logits.shape[1]
    matrix = torch.bincount(targets * classes + logits.argmax(1), minlength=classes**2).view(classes, classes)
    hits = matrix.diagonal()
    f1 = 2 * hits / (matrix.sum(0) + matrix.sum(1)).clamp(min=1)
    return {"loss": F.cross_entropy(logits, targets), "accuracy": hits.sum() / len(targets), "f1": f1}
