"""How all figures look, and how they become files: one set of colours and markers, one width, the same bytes each time.

Colours are those of Petroff (2021, arXiv:2107.02270, the sequence of ten), which people with any common colour vision
can tell apart; where there are more than ten, markers change as well.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import matplotlib
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

COLOURS = (
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
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
STYLES = [(colour, marker) for marker, colour in product(MARKERS, COLOURS)]
GREY, FRAME = "#444444", "#c8c8c8"
DPI = 160
WIDTH = 7.5  # inches, 1200 pixels
FONT = 9.0
_FILES = {
    "pdf.fonttype": 42,  # TrueType: publishers refuse the default, Type 3
    "pdf.compression": 0,  # or the bytes would be those of whichever zlib Python was built with
}


@contextmanager
def in_our_style() -> Iterator[None]:
    """Makes figures that are drawn and saved within it independent of a person's own matplotlib settings."""
    with style.context("default"), matplotlib.rc_context(_FILES):
        yield


def sized(height: float) -> Figure:
    """Returns an empty figure of the common width and of a height in inches, rounded to whole pixels."""
    return Figure(figsize=(WIDTH, round(height * DPI) / DPI), dpi=DPI, layout="constrained", facecolor="white")


def picture(figure: Figure) -> bytes:
    """Returns a figure as PNG, without the name and version of what drew it."""
    file = io.BytesIO()
    FigureCanvasAgg(figure).print_png(file, metadata={"Software": None})
    return file.getvalue()


def page(figure: Figure) -> bytes:
    """Returns a figure as PDF, without the date and the name and version of what drew it."""
    file = io.BytesIO()
    FigureCanvasPdf(figure).print_pdf(file, metadata={"Creator": None, "Producer": None, "CreationDate": None})
    return file.getvalue()


def beside(csv: bytes, path: Path, figure: Figure) -> dict[Path, bytes]:
    """Returns the content of the CSV of a figure's points and of the PNG and PDF beside it."""
    return {path: csv, path.with_suffix(".png"): picture(figure), path.with_suffix(".pdf"): page(figure)}


def framed(axes: Axes) -> None:
    """Gives a panel its frame and small numbers along its scales."""
    axes.spines[:].set(color=FRAME, linewidth=0.8)
    axes.tick_params(labelsize=FONT - 2, color=FRAME)


def marked(look: tuple[str, str], hollow: bool, size: float) -> dict[str, object]:
    """Returns the line properties of points in one of `STYLES`, filled or larger and hollow."""
    colour, marker = look
    return {
        "linestyle": "none",
        "marker": marker,
        "markersize": size * 1.45 if hollow else size,
        "markerfacecolor": "none" if hollow else colour,
        "markeredgecolor": colour if hollow else "white",
        "markeredgewidth": 0.2 * size if hollow else 0.05 * size,
    }
