"""Figures: the size of the picture, what is drawn where, and that the CSV of the points alone decides the bytes."""

import io
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from peace.errors import InputError
from peace.reporting import figures
from peace.reporting.figures import draw, points_csv
from peace.reporting.style import COLOURS

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
def drawn(drawn_by: Callable[[ModuleType], list[Figure]]) -> list[Figure]:
    return drawn_by(figures)


def drawn_from(**frames: pd.DataFrame) -> dict[Path, bytes]:
    return draw(points_csv(frames), "deep/map.csv")


def test_a_picture_has_its_size_and_its_points_beside_it() -> None:
    given = points()
    files = drawn_from(PEACE=given.sample(frac=1, random_state=1))
    assert list(map(str, files)) == ["deep/map.csv", "deep/map.png", "deep/map.pdf"]
    csv, png, pdf = files.values()
    # 7.5 inches wide; one panel of 0.28 + 0.62 · 7.5, one line of legend 0.19, margin 0.2: 5.32 inches at 160 dpi,
    # 851 pixels, which are 382.95 points of 1/72 inch.
    assert imread(io.BytesIO(png)).shape[:2] == (851, 1200)
    assert pdf.startswith(b"%PDF") and b"/MediaBox [ 0 0 540 382.95 ]" in pdf
    read = pd.read_csv(io.BytesIO(csv))
    assert list(read.columns) == ["panel", *COLUMNS]
    assert set(read["panel"]) == {"PEACE"}
    pd.testing.assert_frame_equal(read[COLUMNS], given, check_dtype=False)


def test_no_file_tells_when_or_with_what_it_was_made() -> None:
    _, png, pdf = drawn_from(PEACE=points()).values()
    assert b"tEXt" not in png and b"tIME" not in png
    for word in (b"CreationDate", b"Producer", b"Creator", b"atplotlib", b"/Subtype /Type3"):
        assert word not in pdf, word


def test_pictures_are_byte_identical_whatever_the_order_of_rows() -> None:
    assert drawn_from(PEACE=points()) == drawn_from(PEACE=points().iloc[::-1])


def test_pictures_are_byte_identical_in_another_process_with_other_settings(tmp_path: Path) -> None:
    files = drawn_from(PEACE=points(), Flat=points(2))
    (tmp_path / "matplotlibrc").write_text("font.size: 20\nsavefig.dpi: 50\nlines.markersize: 30\npdf.fonttype: 3\n")
    (tmp_path / "map.csv").write_bytes(files[Path("deep/map.csv")])
    program = (
        "import sys; from pathlib import Path; from peace.reporting.figures import draw\n"
        "for path, content in draw(Path('map.csv').read_bytes(), 'map.csv').items(): path.write_bytes(content)"
    )
    environment = os.environ | {"PYTHONHASHSEED": "5", "TZ": "Asia/Tokyo", "MATPLOTLIBRC": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, check=True)
    for path, content in files.items():
        assert (tmp_path / path.name).read_bytes() == content, path


def test_the_csv_alone_is_enough() -> None:
    files = drawn_from(PEACE=points(), Flat=points(2))
    csv = files[Path("deep/map.csv")]
    assert draw(csv, "deep/map.csv") == files
    moved = csv.replace(b"m00,task 000,mlp,test,", b"m00,task 000,mlp,test,1", 1)
    other = draw(moved, "deep/map.csv")
    assert [path.suffix for path in files if files[path] != other[path]] == [".csv", ".png", ".pdf"]


def test_held_out_tasks_are_larger_and_hollow(drawn: list[Figure]) -> None:
    drawn_from(PEACE=points())
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
    return COLOURS[place]


def test_panels_share_one_legend_and_one_style_a_task(drawn: list[Figure]) -> None:
    frames = {"PEACE": points(), "cost in $": points().query("task != 'task 001'")}
    files = drawn_from(**frames)
    left, right = drawn[0].axes
    assert [axes.get_title() for axes in (left, right)] == ["PEACE", "cost in $"]
    assert len(drawn[0].legends) == 1
    for one, two in zip(left.lines, right.lines, strict=True):
        assert (one.get_marker(), one.get_markeredgecolor()) == (two.get_marker(), two.get_markeredgecolor())
    assert [len(line.get_xdata()) for line in right.lines] == [0, 4, 4]
    panels = pd.read_csv(io.BytesIO(files[Path("deep/map.csv")]))["panel"]
    assert panels.value_counts().to_dict() == {"PEACE": 12, "cost in $": 8}


def test_every_task_has_its_own_style(drawn: list[Figure]) -> None:
    drawn_from(Many=points(tasks=25, each=2))
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
def test_bad_points_are_refused(frames: dict[str, pd.DataFrame], message: str) -> None:
    with pytest.raises(InputError, match=message):
        drawn_from(**frames)


@pytest.mark.parametrize(
    ("csv", "message"),
    [
        (b"", "cannot read the points in deep/map.csv"),
        (b"\xff\xfe\x00", "cannot read the points in deep/map.csv"),
        (b"id,task\na,b\n", "no column 'panel' in deep/map.csv"),
        (b"panel,id,task\np,a,b\n", "no column 'architecture' in deep/map.csv"),
        (b"panel,id,task,architecture,split,x,y\n", "no points in deep/map.csv"),
        (b"panel,id,task,architecture,split,x,y\np,a,b,c,test,1,far\n", "a coordinate that is not finite in deep/map"),
    ],
)
def test_a_bad_csv_is_refused(csv: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        draw(csv, "deep/map.csv")
