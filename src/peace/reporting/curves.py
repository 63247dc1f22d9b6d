"""Pictures of one metric against another, row by row of a table, a pure function of the records."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from peace.errors import InputError
from peace.reporting.axis import AxisSpec
from peace.reporting.record import Record
from peace.reporting.schema import Checked
from peace.reporting.style import COLOURS, FONT, FRAME, beside, in_our_style, sized

_COLUMNS = ["panel", "curve", "x", "y", "x_label", "y_label", "scale"]


class PanelSpec(Checked):
    """One panel: a curve through every record that has both, or one for each of `curves`.

    `curves` are printed names by what follows the metric's own: `{a: Ours}` is the metric `accuracy/a` where `y` is
    `accuracy`.
    """

    title: str
    x: AxisSpec
    y: AxisSpec
    scale: Literal["linear", "log"] = "log"
    curves: Annotated[dict[str, Annotated[str, Field(pattern=r"\S")]], Field(min_length=1)] | None = None

    @property
    def metrics(self) -> dict[str, str]:
        """What begins the names of a metric's curves, by the metric."""
        return {f"{self.y.name}/{key}": f"{label}, " for key, label in (self.curves or {}).items()} or {self.y.name: ""}


Panels = Annotated[list[PanelSpec], Field(min_length=1, max_length=3)]


def curves_csv(panels: Sequence[PanelSpec], records: Sequence[Record]) -> bytes:
    """Returns the CSV of the points of all panels, sorted along x; each seed has curves of its own.

    Raises:
        InputError: A curve has no points.
    """
    rows = []
    for panel, (metric, name) in ((one, each) for one in panels for each in one.metrics.items()):
        points = [(record.seed, x, y) for record in records if (x := _of(record, panel.x.name)) is not None
                  and (y := _of(record, metric)) is not None]  # fmt: skip
        if not points:
            raise InputError("no records for a panel", where=f"figure '{panel.title}'",
                             expected=f"records with '{panel.x.name}' and '{metric}'")  # fmt: skip
        rows += [[panel.title, f"{name}seed {seed}", x, y, panel.x.label, panel.y.label, panel.scale]
                 for seed, x, y in sorted(points)]  # fmt: skip
    return pd.DataFrame(rows, columns=_COLUMNS).to_csv(index=False, lineterminator="\n").encode()


def draw_curves(csv: bytes, path: str | Path) -> dict[Path, bytes]:
    """Returns the content of the CSV itself and of the PNG and PDF beside it, panel by panel in a row.

    Args:
        csv: What `curves_csv` returned.
        path: Its place; the pictures have the same stem.
    """
    path, points = Path(path), pd.read_csv(io.BytesIO(csv))
    with in_our_style():
        figure = _figure(points)
        return beside(csv, path, figure)


def _figure(points: pd.DataFrame) -> Figure:
    panels = list(points.groupby("panel", sort=False))
    figure = sized(2.6)
    grid = figure.subplots(1, len(panels), squeeze=False).ravel()
    for axes, (title, own) in zip(grid, panels, strict=True):
        _draw(axes, own)
        axes.set(xscale=own["scale"].iloc[0], yscale=own["scale"].iloc[0])
        axes.set_title(title, fontsize=FONT + 1, parse_math=False)
        axes.set_xlabel(own["x_label"].iloc[0], fontsize=FONT, parse_math=False)
        axes.set_ylabel(own["y_label"].iloc[0], fontsize=FONT, parse_math=False)
        axes.tick_params(labelsize=FONT - 1)
        axes.spines[:].set(color=FRAME, linewidth=0.8)
    return figure


def _draw(axes: Axes, points: pd.DataFrame) -> None:
    """Curves of one name in one colour; of several names each is thinner than those before, which it may lie upon."""
    names = points["curve"].str.rpartition(", ")[0]
    groups = names if names.any() else points["curve"]
    kinds = list(dict.fromkeys(groups)) if names.any() else sorted(set(groups))
    for place, (colour, kind) in enumerate(zip(COLOURS, kinds, strict=False)):
        wide = len(kinds) - place if names.any() else 1
        for _, curve in points[groups == kind].groupby("curve", sort=True):
            axes.plot(curve["x"], curve["y"], color=colour, marker="o", markersize=2 + 2 * wide, linewidth=1.2 * wide)
        axes.lines[-1].set_label(kind)
    if names.any():
        for text in axes.legend(fontsize=FONT - 1, frameon=False).get_texts():
            text.set_parse_math(False)


def _of(record: Record, name: str) -> float | None:
    if name in record.metrics:
        return record.metrics[name].value
    return record.counts.get(name)
