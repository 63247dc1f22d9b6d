"""The linear probe of a class: softmax regression, its penalty chosen on `val`."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from peace.evaluation.features import Features

STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)
_STEPS = 2000


@dataclass(frozen=True)
class Softmax:
    """A linear classifier.

    Attributes:
        classes: Its labels.
        weights: Shape: [D, K] float64; one column where there are two classes.
        bias: Shape: [K] float64, or [1].
        strength: The C that was chosen.
    """

    classes: np.ndarray
    weights: Tensor
    bias: Tensor
    strength: float

    def predict(self, features: Features) -> np.ndarray:
        """Returns the most probable label of each model. Shape: [G, D] to [G]."""
        scores = features @ self.weights + self.bias
        return self.classes[((scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(dim=1)).numpy()]


def fit_softmax(
    train: Features, labels: np.ndarray, val: Features, val_labels: np.ndarray, strengths: tuple[float, ...] = STRENGTHS
) -> Softmax:
    """Returns the softmax regression whose penalty has the best accuracy on `val`.

    It minimises Σ cross entropy + ‖w‖²/(2C) by L-BFGS until it converges, from the strongest penalty to the weakest,
    each starting where the one before ended; of equally good ones the strongest is taken.

    Args:
        train: Features of the training models.
        labels: Their classes, of which there are two or more. Shape: [G].
        val: Features of the models by which C is chosen.
        val_labels: Their classes. Shape: [V].
        strengths: The values of C, rising.

    Reference:
        Schürholt et al. 2021, arXiv:2110.15288, section 4.2. There the layer is trained by Adam with learning rate 1e-4
        and weight decay 1e-6, in their code for 50 epochs in batches of 10: how far that gets depends on the scale of
        the features, so a row of a table would be compared by its scale. The optimum of a convex loss does not.
    """
    from sklearn.linear_model import LogisticRegression  # slow to import

    found, best = None, -1.0
    model = LogisticRegression(max_iter=_STEPS, warm_start=True)
    inputs = torch.cat(list(train.parts())).numpy()
    for strength in strengths:
        model.set_params(C=strength).fit(inputs, labels)
        probe = Softmax(model.classes_, torch.tensor(model.coef_.T), torch.tensor(model.intercept_), strength)
        reached = float((probe.predict(val) == val_labels).mean())
        if reached > best:
            found, best = probe, reached
    return found
