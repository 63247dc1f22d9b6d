"""What the models of a population are taught, where something is wrong with it: classes, and images step by step."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from peace.zoo.corruptions import Corruption


class Lessons:
    """The training images and classes of M models as their corruptions have them.

    Args:
        corruptions: One for each model.
        seeds: The models' seeds.
        indices: Places of each model's images in the data set, its own first. Shape: [M, N] int64.
        counts: How many are its own. Shape: [M] int64.
        targets: The true class of each image of the data set in the model's task. Shape: [M, images] int16.
        n_classes: Classes in a task.
        greys: The darkest and the brightest grey of the training images.

    Attributes:
        targets: The class that each image is taught with, the given tensor where no class is wrong.
    """

    def __init__(
        self,
        corruptions: Sequence[Corruption],
        seeds: Sequence[int],
        indices: Tensor,
        counts: Tensor,
        targets: Tensor,
        n_classes: int,
        greys: tuple[float, float],
    ) -> None:
        self.greys = greys
        self.rows = rows_by_corruption(corruptions)
        self.targets = targets.clone() if self.rows else targets
        self._marked = {kind: torch.zeros(len(rows), targets.shape[1], dtype=torch.bool)
                        for kind, rows in self.rows.items() if kind.changes_images}  # fmt: skip
        for kind, rows in self.rows.items():
            for place, row in enumerate(rows.tolist()):
                own = indices[row, : counts[row]]
                taught = kind.labels(targets[row, own].long(), n_classes, seeds[row])
                self.targets[row, own] = taught.to(targets.dtype)
                if kind.changes_images:
                    self._marked[kind][place, own] = kind.marked(len(own), seeds[row])

    @property
    def change_images(self) -> bool:
        """Whether any image is changed at all."""
        return bool(self._marked)

    def images(self, images: Tensor, places: Tensor, gradient: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Returns the images of one step as the models are shown them, in place.

        Args:
            images: Shape [M, B, C, H, W].
            places: Where they stand in the data set. Shape: [M, B] int64.
            gradient: Of some models' losses by their images: (rows [R], images [R, B, C, H, W]) -> the same shape.
        """
        for kind, marked in self._marked.items():
            rows = self.rows[kind]
            own = images[rows]
            changed = kind.images(own, self.greys, lambda moved, rows=rows: gradient(rows, moved))
            here = marked.gather(1, places[rows])[:, :, None, None, None]
            images[rows] = torch.where(here, changed, own)
        return images


def rows_by_corruption(corruptions: Sequence[Corruption]) -> dict[Corruption, Tensor]:
    """Returns which models have each corruption, in a fixed order and without those that have none."""
    kinds = sorted({kind for kind in corruptions if kind.name != "none"}, key=lambda kind: str(kind.node))
    return {kind: torch.tensor([row for row, own in enumerate(corruptions) if own == kind]) for kind in kinds}
