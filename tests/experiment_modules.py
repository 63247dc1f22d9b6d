"""Modules in the folders of experiments, for tests."""

import importlib.util
import sys
from types import ModuleType

from peace.config import folder


def measure_of(experiment: str) -> ModuleType:
    """Returns an experiment's `measure`, and puts its folder on the path.

    Not by its name: each experiment has a module of that name.
    """
    place = folder("experiments") / experiment
    if str(place) not in sys.path:
        sys.path.insert(0, str(place))
    spec = importlib.util.spec_from_file_location(f"{experiment.replace('/', '_')}_measure", place / "measure.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
