"""Curves from records."""

import io
from pathlib import Path

import pandas as pd
import pytest

from peace.errors import InputError
from peace.reporting.curves import PanelSpec, curves_csv, draw_curves
from peace.reporting.record import Metric, read_records, write_record

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
