"""What is told of a zoo: how well its models do, checkpoint by checkpoint, and its manifest."""

from peace.tracking import artifacts
from peace.tracking.tell import Tracked
from peace.zoo.storage import Zoo, usable

_MEANS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy", "generalisation_gap")


def tell_zoo(tracked: Tracked, zoo: Zoo, diverged: int) -> None:
    """Tells the means over models after each epoch that is kept, how many models there are, and the zoo itself.

    Args:
        tracked: Who is told.
        zoo: A trained zoo.
        diverged: How many of its models diverged; the means leave them out.
    """
    counts = {"models": zoo.rows["run_id"].nunique(), "checkpoints": len(zoo.rows), "diverged": diverged}
    for epoch, rows in usable(zoo.rows).groupby("epoch"):
        means = {f"mean/{name}": float(rows[name].mean()) for name in _MEANS}
        tracked.log({"epoch": int(epoch), "models": len(rows), **means}, step=int(epoch))
    tracked.summarise(counts)
    tracked.describe(zoo_hash=zoo.hash)
    tracked.made(artifacts.zoo(zoo.folder, hash=zoo.hash, **counts))
