"""The edge lists and the measuring of the experiment `encoder_speed`, for tests."""

import importlib.util
import sys

from peace.config import folder

_FOLDER = folder("experiments") / "encoder_speed"
if str(_FOLDER) not in sys.path:
    sys.path.insert(0, str(_FOLDER))

import checkpoints  # noqa: E402
import growing_checkpoints  # noqa: E402
import large_checkpoints  # noqa: E402
import training_steps  # noqa: E402
from edge_graph import EdgeGraph  # noqa: E402
from edge_lists import EDGE_LISTS  # noqa: E402
from populations import POPULATIONS, population  # noqa: E402

# Not by its name: other experiments have a module of that name too.
_spec = importlib.util.spec_from_file_location("encoder_speed_measure", _FOLDER / "measure.py")
assert _spec is not None and _spec.loader is not None
measure = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(measure)

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
