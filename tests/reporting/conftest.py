"""What tests of pictures share."""

from collections.abc import Callable
from types import ModuleType

import pytest
from matplotlib.figure import Figure


@pytest.fixture
def drawn_by(monkeypatch: pytest.MonkeyPatch) -> Callable[[ModuleType], list[Figure]]:
    """Returns the list that the figures of a module are added to, as they are made."""

    def collect(module: ModuleType) -> list[Figure]:
        made: list[Figure] = []
        original = module._figure
        monkeypatch.setattr(module, "_figure", lambda *given: made.append(original(*given)) or made[-1])
        return made

    return collect
