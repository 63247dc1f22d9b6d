"""Scikit-learn's handwritten digits: small images that need no download."""

import numpy as np

from peace import seeding
from peace.datasets import DATASETS
from peace.datasets.images import ImageData, standardised
from peace.datasets.readers import Pixels


@DATASETS.register("digits")
def digits() -> ImageData:
    """Returns the 1,797 handwritten digits of 8 × 8 pixels with grey levels 0..16, 1,438 to train and 359 to test.

    Of each digit's images a fifth, rounded, is the test set: the first ones in an order that depends on the digit
    alone. Both parts keep the source's order, and the same writers appear in both.

    Reference:
        E. Alpaydin, C. Kaynak 1998, *Optical recognition of handwritten digits*, UCI Machine Learning Repository, test
        part, as shipped with scikit-learn (`sklearn.datasets.load_digits`).
    """
    # Imported here because it takes a second, which whoever only lists the data sets need not wait.
    from sklearn.datasets import load_digits

    source = load_digits()
    images, labels = source.images.astype(np.uint8), source.target.astype(np.int64)
    test = held_out(labels)
    classes = tuple(str(digit) for digit in range(10))
    return standardised("digits", Pixels(images[~test], labels[~test], images[test], labels[test], classes))


def held_out(labels: np.ndarray) -> np.ndarray:
    """Returns which images are the test set: a fifth, rounded, of each label's. Shape: [N] -> [N] bool."""
    mask = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        order = seeding.permutations(seeding.keys([int(label)], "digits", "test"), len(members))[0].numpy()
        mask[members[order[: round(len(members) / 5)]]] = True
    return mask
