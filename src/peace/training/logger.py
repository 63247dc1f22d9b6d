"""Losses and gauges on their way from Lightning to whoever is told of the run."""

from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from peace.tracking.tell import Tracked


class TrackedLogger(Logger):
    """Tells numbers under Lightning's own step, so that what a resumed run repeats is not told twice.

    Args:
        tracked: Who is told.
    """

    def __init__(self, tracked: Tracked) -> None:
        super().__init__()
        self.tracked = tracked

    @property
    def name(self) -> str:
        """Returns what Lightning calls it."""
        return "tracked"

    @property
    def version(self) -> str:
        """Returns nothing: each run has one."""
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Tells numbers of a step."""
        self.tracked.log(metrics, step)

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Tells nothing: the whole config is told when the run is opened."""
