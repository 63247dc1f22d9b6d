"""Pairs of what a probe predicts and what is true, for a picture; measures are those of all pairs."""

from collections.abc import Mapping

from pandas import DataFrame, concat
from torch import Tensor, randperm

from peace import seeding


def drawn(predictions: Mapping[str, tuple[Tensor, Tensor]], most: int, seed: int = 0) -> DataFrame:
    """Returns at most so many pairs of each set, drawn at random and in their order.

    Of sets of one size the same places are drawn: the same models, whatever is predicted of them and by which probe.

    Args:
        predictions: True and predicted values, by what they are of. Shape: [G] each.
        most: How many.
        seed: Decides which.

    Returns:
        Rows with `of`, `true` and `predicted`.
    """
    frames = [DataFrame({"of": [], "true": [], "predicted": []})]
    for name, (true, predicted) in predictions.items():
        places = randperm(len(true), generator=seeding.generator("predictions", seed))[:most].sort().values
        frames.append(DataFrame({"of": name, "true": true[places].tolist(), "predicted": predicted[places].tolist()}))
    return concat(frames[1:] or frames, ignore_index=True)
