"""The edge lists and the measuring of the experiment `encoder_speed`, for tests."""

from experiment_modules import measure_of

measure = measure_of("encoder_speed")

import checkpoints  # noqa: E402
import growing_checkpoints  # noqa: E402
import large_checkpoints  # noqa: E402
import training_steps  # noqa: E402
from edge_graph import EdgeGraph  # noqa: E402
from edge_lists import EDGE_LISTS  # noqa: E402
from populations import POPULATIONS, population  # noqa: E402

__all__ = [
    "EDGE_LISTS",
    "POPULATIONS",
    "EdgeGraph",
    "checkpoints",
    "growing_checkpoints",
    "large_checkpoints",
    "measure",
    "population",
    "training_steps",
]
