"""Figures: the size of the picture, what is drawn where, and the CSV of the points."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from peace.errors import InputError
from peace.reporting import figures

COLUMNS = ["id", "task", "architecture", "split", "x", "y"]


def points(tasks: int = 3, each: int = 4) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    rows = [
        (
            f"m{task}{k}",
            f"task {task:03}",
            "mlp",
            "test" if task == 0 else ("train", "test")[k % 2],
            *rng.normal(size=2),
        )
        for task in range(tasks)
        for k in range(each)
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    made: list[Figure] = []
    original = figures._figure
    monkeypatch.setattr(figures, "_figure", lambda *given: made.append(original(*given)) or made[-1])
    return made


def test_scatter_writes_the_picture_and_its_points(tmp_path: Path) -> None:
    given = points()
    figures.scatter(given.sample(frac=1, random_state=1), "PEACE", tmp_path / "deep" / "map.png")
    # 7.5 inches wide; one panel of 0.28 + 0.62 · 7.5, one line of legend 0.19, margin 0.2: 5.32 inches at 160 dpi.
    assert imread(tmp_path / "deep" / "map.png").shape[:2] == (851, 1200)
    read = pd.read_csv(tmp_path / "deep" / "map.csv")
    assert list(read.columns) == ["panel", *COLUMNS]
    assert set(read["panel"]) == {"PEACE"}
    pd.testing.assert_frame_equal(read[COLUMNS], given, check_dtype=False)
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["map.csv", "map.png"]


def test_pictures_are_byte_identical_whatever_the_order_of_rows(tmp_path: Path) -> None:
    figures.scatter(points(), "PEACE", tmp_path / "a.png")
    figures.scatter(points().iloc[::-1], "PEACE", tmp_path / "b.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()


def test_held_out_tasks_are_larger_and_hollow(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.scatter(points(), "PEACE", tmp_path / "map.png")
    seen, other, held_out = drawn[0].axes[0].lines
    assert (held_out.get_markerfacecolor(), other.get_markerfacecolor()) == ("none", seen_colour(1))
    assert held_out.get_markersize() > seen.get_markersize()
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == [
        "task 001",
        "task 002",
        "task 000",
        "hollow: held out",
    ]


def seen_colour(place: int) -> str:
    return figures._COLOURS[place]


def test_panels_share_one_legend_and_one_style_a_task(tmp_path: Path, drawn: list[Figure]) -> None:
    frames = {"PEACE": points(), "cost in $": points().query("task != 'task 001'")}
    figures.panels(frames, tmp_path / "map.png")
    left, right = drawn[0].axes
    assert [axes.get_title() for axes in (left, right)] == ["PEACE", "cost in $"]
    assert len(drawn[0].legends) == 1
    for one, two in zip(left.lines, right.lines, strict=True):
        assert (one.get_marker(), one.get_markeredgecolor()) == (two.get_marker(), two.get_markeredgecolor())
    assert [len(line.get_xdata()) for line in right.lines] == [0, 4, 4]
    assert pd.read_csv(tmp_path / "map.csv")["panel"].value_counts().to_dict() == {"PEACE": 12, "cost in $": 8}


def test_every_task_has_its_own_style(tmp_path: Path, drawn: list[Figure]) -> None:
    figures.scatter(points(tasks=25, each=2), "Many", tmp_path / "map.png")
    styles = {
        (line.get_marker(), line.get_markeredgecolor(), line.get_markerfacecolor()) for line in drawn[0].axes[0].lines
    }
    assert len(styles) == 25


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        ({}, "no points to draw"),
        ({"PEACE": points().iloc[:0]}, "no points in the points of 'PEACE'"),
        ({"PEACE": points().drop(columns="split")}, "no column 'split' in the points of 'PEACE'"),
        ({"PEACE": points().assign(x=np.nan)}, "a coordinate that is not finite in the points of 'PEACE'"),
        ({"PEACE": points(tasks=81, each=1)}, "too many tasks to tell apart .*got 81, expected at most 80"),
    ],
)
def test_bad_points_are_refused(tmp_path: Path, frames: dict[str, pd.DataFrame], message: str) -> None:
    with pytest.raises(InputError, match=message):
        figures.panels(frames, tmp_path / "map.png")
    assert not list(tmp_path.iterdir())
