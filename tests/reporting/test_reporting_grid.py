"""Grids of panels: what is drawn where and in which colour, from the CSV and the table's words alone."""

import io
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from peace.errors import InputError
from peace.reporting import grid
from peace.reporting.grid import GridSpec, draw_grid, grid_csv
from peace.reporting.spec import TableSpec
from peace.reporting.style import COLOURS

SPEC = GridSpec.parse(
    {
        "kind": "grid",
        "rows": [
            {"kind": "boxes", "x": {"name": "epoch", "label": "epoch"}, "y": {"name": "acc", "label": "accuracy"}},
            {"kind": "points", "x": {"name": "mean", "label": "mean"}, "y": {"name": "acc", "label": "accuracy"}},
            {"kind": "map", "colour": {"name": "init", "label": "initialisation"}},
            {"kind": "map", "colour": {"name": "acc", "label": "accuracy"}},
        ],
    },
    "a test",
)
TABLE = {
    "title": "T", "caption": "C.", "seeds": 1, "rows": [{"row": {"zoo": "a"}, "label": "A"}],
    "blocks": [{"title": "B", "columns": [{"metric": "m", "label": "M", "format": "percent"}]}],
}  # fmt: skip


def frame(seed: int, models: int = 30, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({"unused": 1, "epoch": np.arange(models) % 3 * 5, "acc": rng.uniform(size=models)})
    frame = frame.assign(mean=rng.normal(size=models), init=np.array(["normal", "None"])[np.arange(models) % 2])
    return frame.assign(x=rng.normal(size=models), y=rng.normal(size=models)).assign(**columns)


@pytest.fixture
def figure(drawn_by: Callable[[ModuleType], list[Figure]]) -> list[Figure]:
    return drawn_by(grid)


def test_the_csv_has_what_is_drawn_and_decides_the_pictures() -> None:
    frames = {"MNIST": frame(0), "cost in $": frame(1)}
    csv = grid_csv(SPEC, frames)
    read = pd.read_csv(io.BytesIO(csv), keep_default_na=False)
    assert list(read.columns) == ["panel", "epoch", "acc", "mean", "x", "y", "init"]
    np.testing.assert_allclose(read["x"][30:], frames["cost in $"]["x"], rtol=1e-3)
    files = draw_grid(csv, "deep/grid.csv", SPEC)
    assert list(map(str, files)) == ["deep/grid.csv", "deep/grid.png", "deep/grid.pdf"]
    assert files == draw_grid(csv, Path("deep/grid.csv"), SPEC) and files[Path("deep/grid.csv")] == csv
    moved = draw_grid(grid_csv(SPEC, frames | {"MNIST": frame(2)}), "deep/grid.csv", SPEC)
    assert [path.suffix for path in files if files[path] != moved[path]] == [".csv", ".png", ".pdf"]


def test_each_panel_has_its_own_points(figure: list[Figure]) -> None:
    frames = {"MNIST": frame(0), "cost in $": frame(1)}
    draw_grid(grid_csv(SPEC, frames), "grid.csv", SPEC)
    panels = np.array(figure[0].axes).reshape(4, 3)  # the last of a row has its legend
    assert [axes.get_title() for axes in panels[0]] == ["MNIST", "cost in $", ""]
    for column, given in enumerate(frames.values()):
        given = given.map(lambda value: float(f"{value:.4g}") if isinstance(value, float) else value)
        boxes = panels[0, column].patches
        for box, (epoch, own) in zip(boxes, given.groupby("epoch")["acc"], strict=True):
            corners = box.get_path().vertices
            np.testing.assert_allclose([corners[:, 1].min(), corners[:, 1].max()], own.quantile([0.25, 0.75]))
            assert corners[:, 0].mean() == pytest.approx(epoch, abs=1.0)
        (line,) = panels[1, column].lines
        np.testing.assert_allclose(line.get_xydata(), given[["mean", "acc"]])
        first, second = panels[2, column].lines
        assert (first.get_color(), second.get_color()) == COLOURS[:2]
        np.testing.assert_allclose(first.get_xydata(), given.loc[given["init"] == "None", ["x", "y"]])
    assert panels[0, 0].get_ylim() == panels[0, 1].get_ylim()


def test_legends_say_what_colours_mean_and_numbers_have_few(figure: list[Figure]) -> None:
    given = frame(0)
    draw_grid(grid_csv(SPEC, {"A": given}), "grid.csv", SPEC)
    panels = np.array(figure[0].axes).reshape(4, 2)
    assert [axes.get_legend() for axes in panels[:2, 1]] == [None, None]
    legend = panels[2, 1].get_legend()
    assert legend.get_title().get_text() == "initialisation"
    assert [text.get_text() for text in legend.get_texts()] == ["None", "normal"]
    steps = [text.get_text() for text in panels[3, 1].get_legend().get_texts()]
    bounds = [tuple(map(float, step.split(" to "))) for step in steps]
    assert 3 < len(bounds) <= 9 and all(one[1] <= two[0] for one, two in pairwise(bounds))
    for (low, high), line in zip(bounds, panels[3, 0].lines, strict=True):
        drawn = {tuple(point) for point in line.get_xydata()}
        rounded = given.loc[given["acc"].between(low, high), ["x", "y"]].map(lambda value: float(f"{value:.4g}"))
        assert drawn == set(rounded.itertuples(index=False, name=None))
    assert len({to_hex(line.get_color()) for line in panels[3, 0].lines}) == len(bounds)


def test_few_numbers_keep_their_own_colours(figure: list[Figure]) -> None:
    spec = GridSpec.parse({"kind": "grid", "rows": [{"kind": "map", "colour": {"name": "epoch", "label": "e"}}]}, "t")
    draw_grid(grid_csv(spec, {"A": frame(0).iloc[::-1]}), "grid.csv", spec)
    assert [text.get_text() for text in figure[0].axes[1].get_legend().get_texts()] == ["0", "5", "10"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (frame(0).drop(columns="acc"), "points without 'acc' in the points of 'A'"),
        (frame(0, x=np.nan), "points without 'x' in the points of 'A'"),
        (frame(0, mean=np.inf), "points without 'mean' in the points of 'A'"),
        (frame(0, init=[f"i{k}" for k in range(30)]), "too many labels to tell apart: got 30, expected at most 10"),
    ],
)
def test_bad_points_are_refused(given: pd.DataFrame, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw_grid(grid_csv(SPEC, {"A": given}), "grid.csv", SPEC)


def test_a_csv_of_other_columns_is_refused() -> None:
    with pytest.raises(InputError, match=r"no column 'epoch' in grid\.csv"):
        draw_grid(b"panel,x,y\np,1,2\n", "grid.csv", SPEC)


@pytest.mark.parametrize(
    ("figure", "message"),
    [
        ({"kind": "pie"}, "no such kind of figure: write `kind: grid`, `kind: predictions` or a list of panels"),
        ({}, "no such kind of figure"),
        ({"kind": "grid", "rows": []}, "wrong value of 'rows' in 'figure.grid' of a test"),
        ({"kind": "grid", "rows": [{"kind": "bars"}]}, "wrong value of 'kind'"),
        ({"kind": "predictions", "label": "l", "off": {"test/a": "A"}}, "unknown key 'off'"),
    ],
)
def test_a_wrong_figure_in_a_table_is_one_sentence(figure: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TableSpec.parse(TABLE | {"figure": figure}, "a test")
