"""Pictures of models in rows and columns of panels: boxes, points, and maps in the colours of what the models are.

A `table.yaml` tells what is drawn, the CSV of the models' points where. Nothing is claimed from a map.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Annotated, Literal

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from pydantic import Field

from peace.errors import InputError
from peace.reporting.axis import AxisSpec
from peace.reporting.schema import Checked
from peace.reporting.style import COLOURS, FONT, GREY, WIDTH, beside, framed, in_our_style, sized

_STEPS = 8  # of a number, about
_PLACE = {axis: AxisSpec(name=axis, label="") for axis in "xy"}
_LEGEND = 0.85  # inches


class PanelsSpec(Checked):
    """One row of panels, one for each row of the table.

    `boxes` show `y` at each value of `x`: quartiles, and whiskers over all models. `points` are models at `x` and `y`.
    A `map` is the same without scales. Points have the colour of their `colour`: a number's in about eight steps.
    """

    kind: Literal["boxes", "points", "map"]
    x: AxisSpec = _PLACE["x"]
    y: AxisSpec = _PLACE["y"]
    colour: AxisSpec | None = None

    @property
    def names(self) -> list[str]:
        """The columns of the points that are drawn."""
        return [axis.name for axis in (self.x, self.y, self.colour) if axis]


class GridSpec(Checked):
    """A picture of the models of the table's rows, for which the points of one seed are kept."""

    kind: Literal["grid"]
    seed: Annotated[int, Field(ge=0)] = 0
    rows: Annotated[list[PanelsSpec], Field(min_length=1)]

    @property
    def names(self) -> list[str]:
        """The columns of the points that are drawn, each once."""
        return list(dict.fromkeys(name for row in self.rows for name in row.names))


def grid_csv(spec: GridSpec, frames: Mapping[str, pd.DataFrame]) -> bytes:
    """Returns the CSV of the models' points, which has the column `panel` and those that are drawn.

    Args:
        spec: What is drawn.
        frames: Points by the label of the table's row.

    Raises:
        InputError: A column is missing, or a model has no value.
    """
    for label, frame in frames.items():
        for name in spec.names:
            if name not in frame or frame[name].isin([np.inf, -np.inf]).any() or frame[name].isna().any():
                raise InputError(
                    f"points without '{name}'", where=f"the points of '{label}'", expected="one of each model"
                )
    points = pd.concat([frame.assign(panel=label) for label, frame in frames.items()])
    return points[["panel", *spec.names]].to_csv(index=False, lineterminator="\n", float_format="%.4g").encode()


def draw_grid(csv: bytes, path: str | Path, spec: GridSpec) -> dict[Path, bytes]:
    """Returns the content of the CSV itself and of the PNG and PDF beside it.

    Args:
        csv: What `grid_csv` returned.
        path: Its place; the pictures have the same stem.
        spec: What is drawn.

    Raises:
        InputError: A column is missing, or there are more labels than colours.
    """
    points = pd.read_csv(io.BytesIO(csv), keep_default_na=False)
    if missing := [name for name in ["panel", *spec.names] if name not in points]:
        raise InputError(f"no column '{missing[0]}'", where=path, do="run `peace table` where the points were made")
    with in_our_style():
        return beside(csv, Path(path), _figure(points, spec))


def _figure(points: pd.DataFrame, spec: GridSpec) -> Figure:
    panels = dict(list(points.groupby("panel", sort=False)))
    side = (WIDTH - _LEGEND) / len(panels)
    size = float(np.clip(28 * side / np.sqrt(max(map(len, panels.values()))), 1.2, 4.0))
    figure = sized(0.3 + len(spec.rows) * min(side + 0.12, 2.6))
    ratios = [side] * len(panels) + [_LEGEND]
    grid = figure.subplots(len(spec.rows), len(panels) + 1, squeeze=False, width_ratios=ratios)
    for (*line, legend), row in zip(grid, spec.rows, strict=True):
        hues = _hues(points[row.colour.name]) if row.colour else {}
        codes = _steps(points[row.colour.name]) if row.colour else pd.Series("", points.index)
        for axes, own in zip(line, panels.values(), strict=True):
            _draw(axes, own, row, codes[own.index], hues, size)
            framed(axes)
        _scales(line, row)
        _explain(legend, row, hues)
    for axes, title in zip(grid[0], panels, strict=False):
        axes.set_title(fill(str(title), max(10, int(side / 0.085))), fontsize=FONT - 0.5, parse_math=False)
    return figure


def _hues(values: pd.Series) -> dict[str, object]:
    """The colour of each label, or of each step of numbers, which are light where they are large."""
    steps = _steps(values)
    if pd.api.types.is_numeric_dtype(values):
        names = list(dict.fromkeys(steps[values.sort_values(kind="stable").index]))
        return dict(zip(names, matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(names))), strict=True))
    names = sorted(set(steps))
    if len(names) > len(COLOURS):
        raise InputError("too many labels to tell apart", got=len(names), expected=f"at most {len(COLOURS)}")
    return dict(zip(names, COLOURS, strict=False))


def _steps(values: pd.Series) -> pd.Series:
    """Values by name: themselves if they are labels or few numbers, or else between which two numbers they lie."""
    if not pd.api.types.is_numeric_dtype(values):
        return values.astype(str)
    if values.nunique() <= _STEPS:
        return values.map("{:g}".format)
    edges = MaxNLocator(_STEPS).tick_values(values.min(), values.max())
    places = np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)
    return pd.Series([f"{edges[place]:g} to {edges[place + 1]:g}" for place in places], values.index)


def _draw(
    axes: Axes, points: pd.DataFrame, row: PanelsSpec, codes: pd.Series, hues: Mapping[str, object], size: float
) -> None:
    if row.kind == "boxes":
        groups = {at: own[row.y.name] for at, own in points.groupby(row.x.name)}
        width = 0.6 * min(np.diff(list(groups)), default=1)
        line = {"color": GREY, "linewidth": 0.7}
        axes.boxplot(list(groups.values()), positions=list(groups), widths=width, whis=(0, 100), manage_ticks=False,
                     patch_artist=True, boxprops=line | {"facecolor": COLOURS[0]}, whiskerprops=line, capprops=line,
                     medianprops={"color": "white"})  # fmt: skip
        return
    for code, colour in (hues or {"": COLOURS[0]}).items():
        own = points[codes == code]
        axes.plot(own[row.x.name], own[row.y.name], "o", color=colour, markersize=size, markeredgewidth=0)


def _scales(line: list[Axes], row: PanelsSpec) -> None:
    """Labels the scales of a row of panels, which have the same vertical one; a map has none."""
    if row.kind == "map":
        for axes in line:
            axes.set(xticks=[], yticks=[])
            axes.margins(0.05)
        return
    low, high = (
        pick(limit) for pick, limit in zip((min, max), zip(*(a.get_ylim() for a in line), strict=True), strict=True)
    )
    for axes in line:
        axes.set_ylim(low, high)
        axes.set_xlabel(row.x.label, fontsize=FONT - 1, parse_math=False)
        axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axes.tick_params(labelleft=axes is line[0])
    line[0].set_ylabel(row.y.label, fontsize=FONT - 1, parse_math=False)


def _explain(axes: Axes, row: PanelsSpec, hues: Mapping[str, object]) -> None:
    axes.set_axis_off()
    if not hues or row.colour is None:
        return
    handles = [Line2D([], [], linestyle="none", marker="o", markersize=4, markeredgewidth=0, color=colour, label=name)
               for name, colour in hues.items()]  # fmt: skip
    legend = axes.legend(handles=handles, title=row.colour.label, loc="center left", fontsize=FONT - 2, frameon=False,
                         title_fontsize=FONT - 1, handletextpad=0.1, labelspacing=0.25, borderpad=0, alignment="left",
                         bbox_to_anchor=(-0.15, 0.5))  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
