"""Pictures of one metric against another, row by row of a table, a pure function of the records."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from matplotlib.figure import Figure
from pydantic import Field

from peace.errors import InputError
from peace.reporting.record import Record
from peace.reporting.schema import Checked
from peace.reporting.style import COLOURS, FONT, FRAME, in_our_style, page, picture, sized

_COLUMNS = ["panel", "curve", "x", "y", "x_label", "y_label", "scale"]


class AxisSpec(Checked):
    """What is measured along an axis: a metric or a count of the records, and its printed name."""

    name: str
    label: str


class PanelSpec(Checked):
    """One panel: a curve through every record that has both."""

    title: str
    x: AxisSpec
    y: AxisSpec
    scale: Literal["linear", "log"] = "log"


Panels = Annotated[list[PanelSpec], Field(min_length=1, max_length=3)]


def curves_csv(panels: Sequence[PanelSpec], records: Sequence[Record]) -> bytes:
    """Returns the CSV of the points of all panels, sorted along x; a curve is a seed.

    Raises:
        InputError: A panel has no points.
    """
    rows = []
    for panel in panels:
        points = [(record.seed, x, y) for record in records if (x := _of(record, panel.x.name)) is not None
                  and (y := _of(record, panel.y.name)) is not None]  # fmt: skip
        if not points:
            raise InputError("no records for a panel", where=f"figure '{panel.title}'",
                             expected=f"records with '{panel.x.name}' and '{panel.y.name}'")  # fmt: skip
        rows += [[panel.title, f"seed {seed}", x, y, panel.x.label, panel.y.label, panel.scale]
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
        return {path: csv, path.with_suffix(".png"): picture(figure), path.with_suffix(".pdf"): page(figure)}


def _figure(points: pd.DataFrame) -> Figure:
    panels = list(points.groupby("panel", sort=False))
    figure = sized(2.6)
    grid = figure.subplots(1, len(panels), squeeze=False).ravel()
    for axes, (title, own) in zip(grid, panels, strict=True):
        for colour, (_, curve) in zip(COLOURS, own.groupby("curve", sort=True), strict=False):
            axes.plot(curve["x"], curve["y"], color=colour, marker="o", markersize=4, linewidth=1.2)
        axes.set(xscale=own["scale"].iloc[0], yscale=own["scale"].iloc[0])
        axes.set_title(title, fontsize=FONT + 1, parse_math=False)
        axes.set_xlabel(own["x_label"].iloc[0], fontsize=FONT, parse_math=False)
        axes.set_ylabel(own["y_label"].iloc[0], fontsize=FONT, parse_math=False)
        axes.tick_params(labelsize=FONT - 1)
        axes.spines[:].set(color=FRAME, linewidth=0.8)
    return figure


def _of(record: Record, name: str) -> float | None:
    if name in record.metrics:
        return record.metrics[name].value
    return record.counts.get(name)
