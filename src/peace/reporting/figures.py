"""Pictures of embeddings in the plane, each beside the CSV of its points.

A picture shows where models lie; no claim rests on it. Colours are those of Petroff (2021, arXiv:2107.02270, the
sequence of ten), which people with any common colour vision can tell apart.
"""

from collections.abc import Mapping
from itertools import product
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from peace.atomic import replacing
from peace.errors import InputError

_COLOURS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
_STYLES = [(colour, marker) for marker, colour in product(_MARKERS, _COLOURS)]
_Styles = dict[str, tuple[str, str]]
_COLUMNS = ["id", "task", "architecture", "split", "x", "y"]
_DPI = 160
_WIDTH = 7.5  # inches, 1200 pixels
_PANELS_A_ROW = 3
_FONT = 9.0
_LINE = 0.19  # inches, height of a line of the legend
_LETTER = 0.068  # inches, width of a letter of the legend


def scatter(points: pd.DataFrame, title: str, path_png: str | Path) -> None:
    """Draws one set of points; see `panels`."""
    panels({title: points}, path_png)


def panels(frames: Mapping[str, pd.DataFrame], path_png: str | Path) -> None:
    """Draws sets of points side by side, coloured by task, with one legend, and writes their CSV beside the picture.

    A held-out task, one with points in split `test` and none in `train`, is drawn with larger hollow markers. The PNG
    is 1200 pixels wide; the CSV has the same stem and the columns panel, id, task, architecture, split, x, y, with the
    points of each panel sorted by id.

    Args:
        frames: Points by title, one panel each, with the columns id, task, architecture, split, x, y.
        path_png: The picture to write.

    Raises:
        InputError: There are no points, a column is missing, a coordinate is not finite, or there are more tasks than
            colours and markers tell apart.
    """
    sorted_frames = {title: _checked(title, frame) for title, frame in frames.items()}
    if not sorted_frames:
        raise InputError("no points to draw", where=path_png)
    points = pd.concat([frame.assign(panel=title) for title, frame in sorted_frames.items()])
    held_out = set(points.loc[points["split"] == "test", "task"]) - set(points.loc[points["split"] == "train", "task"])
    tasks = sorted(points["task"].unique(), key=lambda task: (task in held_out, task))
    if len(tasks) > len(_STYLES):
        limit = f"at most {len(_STYLES)}"
        raise InputError("too many tasks to tell apart", where=path_png, got=len(tasks), expected=limit)
    styles = dict(zip(tasks, _STYLES, strict=False))
    figure = _figure(sorted_frames, styles, held_out)
    path_png = Path(path_png)
    with replacing(path_png) as temporary:
        FigureCanvasAgg(figure).print_png(temporary, metadata={"Software": None})
    with replacing(path_png.with_suffix(".csv")) as temporary:
        points[["panel", *_COLUMNS]].to_csv(temporary, index=False, lineterminator="\n")


def _checked(title: str, points: pd.DataFrame) -> pd.DataFrame:
    missing = [column for column in _COLUMNS if column not in points.columns]
    if missing or points.empty:
        what = f"no column '{missing[0]}'" if missing else "no points"
        raise InputError(what, where=f"the points of '{title}'", expected=", ".join(_COLUMNS))
    if not np.isfinite(points[["x", "y"]].to_numpy(dtype=float)).all():
        raise InputError("a coordinate that is not finite", where=f"the points of '{title}'")
    return points.assign(task=points["task"].astype(str)).sort_values("id", kind="stable")


def _figure(frames: Mapping[str, pd.DataFrame], styles: _Styles, held_out: set[str]) -> Figure:
    down = ceil(len(frames) / _PANELS_A_ROW)
    across = ceil(len(frames) / down)
    handles = _handles(styles, held_out)
    columns = max(1, int(_WIDTH / (0.45 + _LETTER * max(len(handle.get_label()) for handle in handles))))
    panel = 0.28 + (_WIDTH / across) * (0.62 if across == 1 else 0.92)
    height = down * panel + _LINE * ceil(len(handles) / columns) + 0.2
    figure = Figure(figsize=(_WIDTH, round(height * _DPI) / _DPI), dpi=_DPI, layout="constrained", facecolor="white")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for axes, (title, points) in zip(grid, frames.items(), strict=False):
        _draw(axes, title, points, styles, held_out)
    for axes in grid[len(frames) :]:
        axes.set_axis_off()
    spacing = {"handletextpad": 0.2, "columnspacing": 1.0, "labelspacing": 0.3}
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=_FONT, frameon=False, **spacing
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    return figure


def _handles(styles: _Styles, held_out: set[str]) -> list[Line2D]:
    named = [(task, style, task in held_out) for task, style in styles.items()]
    if held_out:
        named.append(("hollow: held out", ("#444444", "o"), True))
    return [Line2D([], [], label=name, **_marker(style, hollow, 5.5)) for name, style, hollow in named]


def _draw(axes: Axes, title: str, points: pd.DataFrame, styles: _Styles, held_out: set[str]) -> None:
    size = float(np.clip(110 / np.sqrt(len(points)), 2.5, 5.5))
    for task, style in styles.items():
        own = points[points["task"] == task]
        axes.plot(own["x"], own["y"], **_marker(style, task in held_out, size))
    axes.set_title(title, fontsize=_FONT + 1.5, parse_math=False)
    axes.set(xticks=[], yticks=[])
    axes.margins(0.04)
    axes.spines[:].set(color="#c8c8c8", linewidth=0.8)


def _marker(style: tuple[str, str], hollow: bool, size: float) -> dict[str, object]:
    colour, marker = style
    return {
        "linestyle": "none",
        "marker": marker,
        "markersize": size * 1.45 if hollow else size,
        "markerfacecolor": "none" if hollow else colour,
        "markeredgecolor": colour if hollow else "white",
        "markeredgewidth": 0.2 * size if hollow else 0.05 * size,
    }
