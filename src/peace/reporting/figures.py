"""Pictures of embeddings in the plane, a pure function of the CSV of their points.

A picture shows where models lie; no claim rests on it.
"""

import io
from collections.abc import Mapping
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from peace.errors import InputError
from peace.reporting.style import FONT, FRAME, GREY, STYLES, WIDTH, beside, in_our_style, marked, sized

_Styles = dict[str, tuple[str, str]]
_COLUMNS = ["id", "task", "architecture", "split", "x", "y"]
_PANELS_A_ROW = 3
_LINE = 0.19  # inches, height of a line of the legend
_LETTER = 0.068  # inches, width of a letter of the legend


def points_csv(frames: Mapping[str, pd.DataFrame]) -> bytes:
    """Returns the CSV from which `draw` makes a picture with one panel a set of points.

    Its columns are panel, id, task, architecture, split, x, y; the points of each panel are sorted by id.

    Args:
        frames: Points by the panel's title, with the columns id, task, architecture, split, x, y.

    Raises:
        InputError: There are no points, a column is missing, or a coordinate is not finite.
    """
    if not frames:
        raise InputError("no points to draw")
    checked = {title: _checked(frame, f"the points of '{title}'") for title, frame in frames.items()}
    points = pd.concat([frame.assign(panel=title) for title, frame in checked.items()])
    return points[["panel", *_COLUMNS]].to_csv(index=False, lineterminator="\n").encode()


def draw(csv: bytes, path: str | Path) -> dict[Path, bytes]:
    """Returns the content of the CSV itself and of the PNG and PDF beside it: its points, panel by panel.

    Points are coloured by task, with one legend. A held-out task, one with points in split `test` and none in `train`,
    is drawn with larger hollow markers. The PNG is 1200 pixels wide.

    Args:
        csv: The content of the CSV.
        path: Its place; the pictures have the same stem.

    Raises:
        InputError: The CSV cannot be read, has no points or lacks a column, a coordinate is not finite, or there are
            more tasks than colours and markers tell apart.
    """
    path = Path(path)
    points = _read(csv, path)
    held_out = set(points.loc[points["split"] == "test", "task"]) - set(points.loc[points["split"] == "train", "task"])
    tasks = sorted(points["task"].unique(), key=lambda task: (task in held_out, task))
    if len(tasks) > len(STYLES):
        limit = f"at most {len(STYLES)}"
        raise InputError("too many tasks to tell apart", where=path, got=len(tasks), expected=limit)
    frames = {str(title): frame for title, frame in points.groupby("panel", sort=False)}
    with in_our_style():
        figure = _figure(frames, dict(zip(tasks, STYLES, strict=False)), held_out)
        return beside(csv, path, figure)


def _read(csv: bytes, path: Path) -> pd.DataFrame:
    try:
        points = pd.read_csv(io.BytesIO(csv), dtype={"panel": str, "task": str})
    except (ValueError, pd.errors.ParserError) as error:
        raise InputError("cannot read the points", where=path, got=str(error).strip(), expected="CSV") from error
    if "panel" not in points.columns:
        raise InputError("no column 'panel'", where=path, expected=", ".join(["panel", *_COLUMNS]))
    return _checked(points, path)


def _checked(points: pd.DataFrame, where: object) -> pd.DataFrame:
    missing = [column for column in _COLUMNS if column not in points.columns]
    if missing or points.empty:
        what = f"no column '{missing[0]}'" if missing else "no points"
        raise InputError(what, where=where, expected=", ".join(_COLUMNS))
    if not np.isfinite(points[["x", "y"]].apply(pd.to_numeric, errors="coerce").to_numpy(dtype=float)).all():
        raise InputError("a coordinate that is not finite", where=where)
    return points.assign(task=points["task"].astype(str)).sort_values("id", kind="stable")


def _figure(frames: Mapping[str, pd.DataFrame], styles: _Styles, held_out: set[str]) -> Figure:
    down = ceil(len(frames) / _PANELS_A_ROW)
    across = ceil(len(frames) / down)
    handles = _handles(styles, held_out)
    columns = max(1, int(WIDTH / (0.45 + _LETTER * max(len(handle.get_label()) for handle in handles))))
    panel = 0.28 + (WIDTH / across) * (0.62 if across == 1 else 0.92)
    figure = sized(down * panel + _LINE * ceil(len(handles) / columns) + 0.2)
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (title, points) in zip(grid, frames.items(), strict=False):
        _draw(axes, title, points, styles, held_out)
    for axes in grid[len(frames) :]:
        axes.set_axis_off()
    spacing = {"handletextpad": 0.2, "columnspacing": 1.0, "labelspacing": 0.3}
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=FONT, frameon=False, **spacing
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _handles(styles: _Styles, held_out: set[str]) -> list[Line2D]:
    named = [(task, style, task in held_out) for task, style in styles.items()]
    if held_out:
        named.append(("hollow: held out", (GREY, "o"), True))
    return [Line2D([], [], label=name, **marked(style, hollow, 5.5)) for name, style, hollow in named]


def _draw(axes: Axes, title: str, points: pd.DataFrame, styles: _Styles, held_out: set[str]) -> None:
    size = float(np.clip(110 / np.sqrt(len(points)), 2.5, 5.5))
    for task, style in styles.items():
        own = points[points["task"] == task]
        axes.plot(own["x"], own["y"], **marked(style, task in held_out, size))
    axes.set_title(title, fontsize=FONT + 1.5, parse_math=False)
    axes.set(xticks=[], yticks=[])
    axes.margins(0.04)
    axes.spines[:].set(color=FRAME, linewidth=0.8)
