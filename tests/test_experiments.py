"""Experiments at any depth: their names, and where they are found."""

from pathlib import Path

import pytest

from peace.errors import InputError
from peace.experiments import experiment_name, experiments_with


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The experiments."""
    for name in ("flat", "paper/table1", "paper/deeper/figure2"):
        place = tmp_path / "home" / "experiments" / name
        place.mkdir(parents=True)
        (place / "table.yaml").touch()
    return tmp_path / "home" / "experiments"


@pytest.mark.parametrize("name", ["demo", "paper/table1", "a/b/c", "a.b/c,d=e+f@g-h_i"])
def test_a_name_is_plain_folders_joined_by_slashes(name: str) -> None:
    assert experiment_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "/", "/a", "a/", "a//b", "..", "a/../b", "a/..", ".a", "a/.b", "a b", "a\\b", "a\n", "é", 3, None]
)
def test_what_leads_elsewhere_is_no_name(name: object) -> None:
    with pytest.raises(InputError, match=r"not the name of an experiment: got .* folders joined by /"):
        experiment_name(name)


def test_experiments_are_found_at_every_depth(root: Path) -> None:
    (root / "table.yaml").touch()  # belongs to none
    assert experiments_with(root, "table.yaml") == ["flat", "paper/deeper/figure2", "paper/table1"]
