"""Pictures of what probes predict against what is true: a row of panels for each method, a column for each zoo."""

import io
from collections.abc import Mapping
from pathlib import Path
from textwrap import fill
from typing import Annotated, Literal

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pydantic import Field

from peace.errors import InputError
from peace.reporting.record import Record
from peace.reporting.schema import Checked
from peace.reporting.style import COLOURS, FONT, GREY, WIDTH, beside, framed, in_our_style, sized

_COLUMNS = ["of", "true", "predicted"]
_ROOM = 0.4  # above and below what is true, in units of its range: predictions beyond that are told at the frame


class PredictionsSpec(Checked):
    """Predictions of one property: a row of panels for each row of the table, a column for each of `of`.

    `of` are printed names by what begins the names of metrics: `{ood/cifar10/epoch: CIFAR10}` has the measures
    `ood/cifar10/epoch/kendall_tau` and `ood/cifar10/epoch/r2`, and the predictions of that name.
    """

    kind: Literal["predictions"]
    seed: Annotated[int, Field(ge=0)] = 0
    label: str
    of: Annotated[dict[str, str], Field(min_length=1)]


def predictions_csv(spec: PredictionsSpec, frames: Mapping[str, pd.DataFrame]) -> bytes:
    """Returns the CSV of the predictions that are drawn, with the columns panel, of, true and predicted.

    Args:
        spec: What is drawn.
        frames: Predictions by the label of the table's row, with the columns of, true and predicted.

    Raises:
        InputError: A row has no predictions of something that is drawn.
    """
    for label, frame in frames.items():
        if missing := [name for name in spec.of if name not in set(frame["of"])]:
            raise InputError(f"no predictions of '{missing[0]}'", where=f"the predictions of '{label}'",
                             do="name it in properties.regression and properties.others")  # fmt: skip
    pairs = pd.concat([frame.assign(panel=label) for label, frame in frames.items()])
    pairs = pairs[pairs["of"].isin(list(spec.of))]
    return pairs[["panel", *_COLUMNS]].to_csv(index=False, lineterminator="\n", float_format="%.4g").encode()


def draw_predictions(
    csv: bytes, path: str | Path, spec: PredictionsSpec, records: Mapping[str, Record]
) -> dict[Path, bytes]:
    """Returns the content of the CSV itself and of the PNG and PDF beside it.

    Kendall's τ and R² in the corners are those of the records, of all test models and not of those drawn alone.

    Args:
        csv: What `predictions_csv` returned.
        path: Its place; the pictures have the same stem.
        spec: What is drawn.
        records: Those of the seed drawn, by the label of the table's row.

    Raises:
        InputError: A panel has points but no record, or its record lacks a measure.
    """
    pairs = pd.read_csv(io.BytesIO(csv), keep_default_na=False)
    with in_our_style():
        return beside(csv, Path(path), _figure(pairs, spec, records))


def _figure(pairs: pd.DataFrame, spec: PredictionsSpec, records: Mapping[str, Record]) -> Figure:
    rows = list(dict.fromkeys(pairs["panel"]))
    side = min(0.86 * WIDTH / len(spec.of), 2.3)
    figure = sized(0.45 + len(rows) * side)
    grid = figure.subplots(len(rows), len(spec.of), squeeze=False)
    for (place, of), line in zip(enumerate(spec.of), grid.T, strict=True):
        own = pairs[pairs["of"] == of]
        low, high = own["true"].min(), own["true"].max()
        limits = low - _ROOM * (high - low), high + _ROOM * (high - low)
        for axes, label in zip(line, rows, strict=True):
            _draw(axes, own[own["panel"] == label], limits)
            axes.text(0.04, 0.96, _scores(records.get(label), of, label), transform=axes.transAxes, va="top",
                      fontsize=FONT - 2, bbox={"color": "white", "alpha": 0.7, "pad": 0.5})  # fmt: skip
            axes.tick_params(labelbottom=axes is line[-1])
            if not place:
                axes.set_ylabel(f"{label}\npredicted", fontsize=FONT - 1, parse_math=False)
        line[0].set_title(fill(spec.of[of], int(side / 0.075)), fontsize=FONT, parse_math=False)
    figure.supxlabel(f"true {spec.label}", fontsize=FONT - 1, parse_math=False)
    return figure


def _draw(axes: Axes, pairs: pd.DataFrame, limits: tuple[float, float]) -> None:
    axes.plot(limits, limits, color=GREY, linewidth=0.7)
    low, high = pairs["predicted"] < limits[0], pairs["predicted"] > limits[1]
    axes.plot(pairs["true"][~low & ~high], pairs["predicted"][~low & ~high], "o", color=COLOURS[0], markersize=1.8,
              markeredgewidth=0, alpha=0.7)  # fmt: skip
    inside = 0.02 * (limits[1] - limits[0])
    for beyond, marker, edge in ((low, "v", limits[0] + inside), (high, "^", limits[1] - inside)):
        axes.plot(pairs["true"][beyond], [edge] * int(beyond.sum()), marker, color=COLOURS[2], markersize=3.0,
                  markeredgewidth=0, alpha=0.7)  # fmt: skip
    axes.set(xlim=limits, ylim=limits, box_aspect=1)
    axes.locator_params(nbins=4)
    framed(axes)


def _scores(record: Record | None, of: str, label: str) -> str:
    names = [f"{of}/kendall_tau", f"{of}/r2"]
    if record is None or (missing := [name for name in names if name not in record.metrics]):
        raise InputError("no measure for a panel", where=f"the record of '{label}'",
                         expected=names[0] if record is None else missing[0])  # fmt: skip
    tau, r2 = (record.metrics[name].value for name in names)
    return f"τ {tau:.2f}\nR² {r2:.2f}".replace("-", "−")
