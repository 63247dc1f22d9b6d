"""The networks, random weights and checks of the experiment `symmetry_coverage`, for tests."""

import sys

from peace.config import folder

_FOLDER = str(folder("experiments") / "symmetry_coverage")
if _FOLDER not in sys.path:
    sys.path.insert(0, _FOLDER)

import networks  # noqa: E402
import preservation  # noqa: E402
import randomisation  # noqa: E402

NETWORKS, SMALL, from_timm = networks.NETWORKS, networks.SMALL, networks.from_timm
relative_change, floating = preservation.relative_change, preservation.floating
randomised = randomisation.randomised
