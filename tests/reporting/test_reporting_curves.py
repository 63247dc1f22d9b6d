"""Curves from records."""

import io
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from peace.errors import InputError
from peace.reporting.curves import PanelSpec, _figure, curves_csv, draw_curves
from peace.reporting.record import Metric, read_records, write_record
from peace.reporting.style import COLOURS

PANEL = {"title": "Time", "x": {"name": "models", "label": "n"}, "y": {"name": "s", "label": "seconds"}}
ORIGIN = {"git_commit": "c", "versions": {}, "device": "d", "zoo": "", "config": "x"}


def test_points_come_from_the_records_and_the_picture_from_the_points(tmp_path: Path) -> None:
    for models in (100, 10, 1000):
        row, counts = {"models": str(models)}, {"models": models}
        write_record(tmp_path, "e", row, 0, {"s": Metric(2.0 * models)}, counts, ORIGIN, 1.0)
    write_record(tmp_path, "e", {"models": "line"}, 0, {"slope": Metric(2.0)}, {}, ORIGIN, 1.0)
    records = read_records(tmp_path, "e")
    csv = curves_csv([PanelSpec(**PANEL)], records)
    points = pd.read_csv(io.BytesIO(csv))
    assert points[["x", "y"]].to_numpy().tolist() == [[10, 20], [100, 200], [1000, 2000]]
    files = draw_curves(csv, tmp_path / "e.csv")
    assert files == draw_curves(csv, tmp_path / "e.csv") and [path.suffix for path in files] == [".csv", ".png", ".pdf"]
    assert files[tmp_path / "e.png"].startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no records for a panel in figure 'Time'"):
        curves_csv([PanelSpec(**PANEL | {"y": {"name": "none", "label": ""}})], records)


def test_a_panel_of_several_curves_names_them_and_draws_them_over_each_other(tmp_path: Path) -> None:
    for seed in (0, 1):
        for epoch in (1, 0):
            metrics = {"acc/a": Metric(0.1 * epoch + seed), "acc/b": Metric(0.5)}
            write_record(tmp_path, "e", {"epoch": str(epoch)}, seed, metrics, {"epoch": epoch}, ORIGIN, 1.0)
    panel = PanelSpec(title="Acc", x={"name": "epoch", "label": "epoch"}, y={"name": "acc", "label": "accuracy"},
                      scale="linear", curves={"a": "A, first", "b": "B_$"})  # fmt: skip
    csv = curves_csv([panel], read_records(tmp_path, "e"))
    points = pd.read_csv(io.BytesIO(csv))
    assert points[["curve", "x", "y"]].to_numpy().tolist() == [
        ["A, first, seed 0", 0, 0.0], ["A, first, seed 0", 1, 0.1], ["A, first, seed 1", 0, 1.0],
        ["A, first, seed 1", 1, 1.1], ["B_$, seed 0", 0, 0.5], ["B_$, seed 0", 1, 0.5], ["B_$, seed 1", 0, 0.5],
        ["B_$, seed 1", 1, 0.5],
    ]  # fmt: skip
    (axes,) = _figure(points).axes
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["A, first", "B_$"]
    first, second = axes.lines[:2], axes.lines[2:]
    assert {line.get_color() for line in first} == {COLOURS[0]} and {line.get_color() for line in second} == {
        COLOURS[1]
    }
    assert first[0].get_linewidth() > second[0].get_linewidth()
    assert len(draw_curves(csv, tmp_path / "e.csv")) == 3
    with pytest.raises(
        InputError, match="no records for a panel in figure 'Acc': expected records with 'epoch' and 'acc/c'"
    ):
        curves_csv([panel.model_copy(update={"curves": {"c": "C"}})], read_records(tmp_path, "e"))
    with pytest.raises(ValidationError):
        PanelSpec(**PANEL, curves={})
