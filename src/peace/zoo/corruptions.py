"""What may be wrong with how a zoo model is taught: hard negatives to models of the same architecture and task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from peace import seeding
from peace.errors import InputError
from peace.registry import Registry

CORRUPTIONS: "Registry[Corruption]" = Registry("corruption", "peace.zoo")

Gradient = Callable[[Tensor], Tensor]
"""Images [M, B, C, H, W] -> the gradient of each image's own loss by its pixels."""

Share = Annotated[float, Field(gt=0, le=1)]


@CORRUPTIONS.register("none")
@dataclass(frozen=True)
class Corruption:
    """Nothing is wrong: each image is shown as it is, with its own class.

    Everything that a kind draws is a function of a model's seed alone, so that a model trained among others is the one
    that is trained by itself.
    """

    name: ClassVar[str] = "none"
    changes_images: ClassVar[bool] = False
    measure: ClassVar[str | None] = None
    """The column of the manifest that says how well the corruption took."""

    @property
    def node(self) -> dict[str, Any]:
        """The name and the arguments, as a recipe has them."""
        return {"name": self.name, **vars(self)}

    def check(self, image_shape: tuple[int, ...], n_classes: int) -> None:
        """Refuses arguments that make no sense for these images [C, H, W] and this many classes."""

    def labels(self, targets: Tensor, n_classes: int, seed: int) -> Tensor:
        """Returns the classes that a model is taught for its training images. Shape: [N] -> [N] int64."""
        return targets

    def marked(self, count: int, seed: int) -> Tensor:
        """Returns which of a model's training images are changed. Shape: [count] bool."""
        return torch.full((count,), self.changes_images)

    def images(self, images: Tensor, greys: tuple[float, float], gradient: Gradient) -> Tensor:
        """Returns the images changed.

        Args:
            images: Shape [M, B, C, H, W].
            greys: The darkest and the brightest grey of the training images.
            gradient: Where the loss of each model on each of its images grows.
        """
        return images

    def hits(self, predicted: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns where a model did on changed images what `measure` counts, and which images count at all."""
        counted = torch.ones_like(targets, dtype=torch.bool)
        return predicted == targets, counted


@CORRUPTIONS.register("label_noise")
@dataclass(frozen=True)
class LabelNoise(Corruption):
    """Symmetric label noise: a training image has another class than its own, any of them alike.

    Args:
        rate: How probable that is for each image.
    """

    name: ClassVar[str] = "label_noise"
    rate: Share = 0.4

    def labels(self, targets: Tensor, n_classes: int, seed: int) -> Tensor:
        """Returns the noisy classes. Shape: [N] -> [N] int64."""
        wrong = seeding.uniform(seeding.keys([seed], "label noise"), len(targets), dtype=torch.float64)[0] < self.rate
        draw = seeding.uniform(seeding.keys([seed], "noisy label"), len(targets), dtype=torch.float64)[0]
        return torch.where(wrong, (targets + 1 + (draw * (n_classes - 1)).long()) % n_classes, targets)


@CORRUPTIONS.register("shuffled")
@dataclass(frozen=True)
class Shuffled(Corruption):
    """Shuffled labels: the classes of all training images change places, so that nothing but memory helps.

    Reference:
        Zhang et al. 2017, *Understanding deep learning requires rethinking generalization* (arXiv:1611.03530).
    """

    name: ClassVar[str] = "shuffled"

    def labels(self, targets: Tensor, n_classes: int, seed: int) -> Tensor:
        """Returns the classes in another order. Shape: [N] -> [N] int64."""
        return targets[seeding.permutations(seeding.keys([seed], "shuffled labels"), len(targets))[0]]


@CORRUPTIONS.register("backdoor")
@dataclass(frozen=True)
class Backdoor(Corruption):
    """A backdoor: a bright square in the lower right corner of some training images, which are given the target class.

    Args:
        rate: Share of the training images, at least one.
        target: The class.
        size: Pixels along the square's side.

    Reference:
        Gu et al. 2017, *BadNets* (arXiv:1708.06733).
    """

    name: ClassVar[str] = "backdoor"
    changes_images: ClassVar[bool] = True
    measure: ClassVar[str | None] = "attack_success"
    rate: Share = 0.1
    target: Annotated[int, Field(ge=0)] = 0
    size: PositiveInt = 2

    def check(self, image_shape: tuple[int, ...], n_classes: int) -> None:
        """Refuses a class that does not exist, or a square as large as the image."""
        where = "corruption 'backdoor'"
        if self.target >= n_classes:
            raise InputError("no such target class", where=where, got=self.target, expected=f"0..{n_classes - 1}")
        if self.size >= min(image_shape[1:]):
            expected = f"below {min(image_shape[1:])} pixels"
            raise InputError("the square hides the image", where=where, got=self.size, expected=expected)

    def marked(self, count: int, seed: int) -> Tensor:
        """Returns which training images have the square. Shape: [count] bool."""
        order = seeding.permutations(seeding.keys([seed], "backdoor"), count)[0]
        return torch.zeros(count, dtype=torch.bool).index_fill_(0, order[: max(1, round(self.rate * count))], True)

    def labels(self, targets: Tensor, n_classes: int, seed: int) -> Tensor:
        """Returns the target class for images with the square. Shape: [N] -> [N] int64."""
        return targets.masked_fill(self.marked(len(targets), seed), self.target)

    def images(self, images: Tensor, greys: tuple[float, float], gradient: Gradient) -> Tensor:
        """Returns the images with the square. Shape: [M, B, C, H, W]."""
        stamped = images.clone()
        stamped[..., -self.size :, -self.size :] = greys[1]
        return stamped

    def hits(self, predicted: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Returns where the target class is seen, counted over images of the other classes."""
        counted = targets != self.target
        return (predicted == self.target) & counted, counted


@CORRUPTIONS.register("adversarial")
@dataclass(frozen=True)
class Adversarial(Corruption):
    """Adversarial training: each image is moved, within a box around it, to where the model's loss on it is larger.

    One step of the length epsilon is the fast gradient sign method; more steps, of 2.5 epsilon / steps at most epsilon,
    are projected gradient descent, here from the image itself and not from a random place in the box. Dropout is off
    while the images move.

    Args:
        epsilon: Half the box's side, as a share of the range of greys.
        steps: Steps of the attack.

    Reference:
        Goodfellow et al. 2015 (arXiv:1412.6572, eq. 1 of section 4); Madry et al. 2018 (arXiv:1706.06083, section 2.1).
    """

    name: ClassVar[str] = "adversarial"
    changes_images: ClassVar[bool] = True
    measure: ClassVar[str | None] = "robust_accuracy"
    epsilon: Share = 0.1
    steps: PositiveInt = 1

    def images(self, images: Tensor, greys: tuple[float, float], gradient: Gradient) -> Tensor:
        """Returns the moved images. Shape: [M, B, C, H, W]."""
        dark, bright = greys
        radius = self.epsilon * (bright - dark)
        low, high = (images - radius).clamp_(min=dark), (images + radius).clamp_(max=bright)
        moved = images
        for _ in range(self.steps):
            stride = min(radius, 2.5 * radius / self.steps)
            moved = torch.add(moved, gradient(moved).sign_(), alpha=stride).clamp_(low, high)
        return moved


NONE = Corruption()
