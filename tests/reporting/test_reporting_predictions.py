"""Predictions against the truth: each panel's points, its diagonal, and the record's measures in its corner."""

import io
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from peace.errors import InputError
from peace.reporting import predictions
from peace.reporting.predictions import PredictionsSpec, draw_predictions, predictions_csv
from peace.reporting.record import Metric, Record, read_records, write_record

OF = {"test/epoch": "MNIST", "ood/usps/epoch": "USPS, $"}
SPEC = PredictionsSpec(kind="predictions", label="epoch", of=OF)
ORIGIN = {"git_commit": "c", "versions": {}, "device": "d", "zoo": "", "config": "x"}


def pairs(shift: float = 0.0) -> pd.DataFrame:
    true = np.linspace(0, 10, 11)
    frames = [pd.DataFrame({"of": of, "true": true, "predicted": true[::-1] + shift}) for of in [*OF, "test/accuracy"]]
    return pd.concat(frames)


@pytest.fixture
def records(tmp_path: Path) -> dict[str, Record]:
    for place, method in enumerate(("w", "statistics")):
        scores = {f"{of}/{name}": Metric(-place - step / 8) for step, of in enumerate(OF)
                  for name in ("kendall_tau", "r2")}  # fmt: skip
        write_record(tmp_path, "e", {"method": method}, 0, scores, {}, ORIGIN, 1.0)
    return {"W" if record.row["method"] == "w" else "s(W)": record for record in read_records(tmp_path, "e")}


@pytest.fixture
def figure(drawn_by: Callable[[ModuleType], list[Figure]]) -> list[Figure]:
    return drawn_by(predictions)


def test_rows_are_methods_columns_are_zoos_and_corners_the_records(
    records: dict[str, Record], figure: list[Figure]
) -> None:
    csv = predictions_csv(SPEC, {"W": pairs(), "s(W)": pairs(1.0)})
    read = pd.read_csv(io.BytesIO(csv))
    assert list(read.columns) == ["panel", "of", "true", "predicted"] and set(read["of"]) == set(OF)
    files = draw_predictions(csv, "deep/p.csv", SPEC, records)
    assert list(map(str, files)) == ["deep/p.csv", "deep/p.png", "deep/p.pdf"]
    assert files == draw_predictions(csv, "deep/p.csv", SPEC, records)
    panels = np.array(figure[0].axes).reshape(2, 2)
    assert [axes.get_title() for axes in panels[0]] == list(OF.values())
    assert [axes.get_ylabel() for axes in panels[:, 0]] == ["W\npredicted", "s(W)\npredicted"]
    assert [axes.texts[0].get_text() for axes in panels.flat] == [
        "τ 0.00\nR² 0.00".replace("0.00", value) for value in ("0.00", "−0.12", "−1.00", "−1.12")
    ]
    for axes, shift in zip(panels.flat, (0, 0, 1, 1), strict=True):
        diagonal, points, *_ = axes.lines
        # The true values span 10: 4 more on either side.
        assert diagonal.get_xydata().tolist() == [[-4, -4], [14, 14]] and axes.get_ylim() == (-4, 14)
        assert points.get_xydata().tolist() == [[k, 10 - k + shift] for k in range(11)]


def test_predictions_far_off_are_told_at_the_edge(records: dict[str, Record], figure: list[Figure]) -> None:
    given = pairs()
    given.loc[given.index < 2, "predicted"] = [99.0, -99.0] * 3
    draw_predictions(predictions_csv(SPEC, {"W": given}), "p.csv", SPEC, records)
    for axes in figure[0].axes:
        _, points, below, above = axes.lines
        assert len(points.get_xdata()) == 9
        assert (below.get_xdata().tolist(), above.get_xdata().tolist()) == ([1.0], [0.0])
        assert -4 < below.get_ydata()[0] < -3 and 13 < above.get_ydata()[0] < 14


def test_what_lacks_is_said(records: dict[str, Record]) -> None:
    with pytest.raises(InputError, match="no predictions of 'ood/usps/epoch' in the predictions of 'W'"):
        predictions_csv(SPEC, {"W": pairs().query("of == 'test/epoch'")})
    csv = predictions_csv(SPEC, {"E_c": pairs()})
    with pytest.raises(InputError, match="no measure for a panel in the record of 'E_c': expected test/epoch/kendall"):
        draw_predictions(csv, "p.csv", SPEC, records)
    with pytest.raises(InputError, match="in the record of 'W': expected test/accuracy/kendall_tau"):
        spec = SPEC.model_copy(update={"of": {"test/accuracy": "MNIST"}})
        draw_predictions(predictions_csv(spec, {"W": pairs()}), "p.csv", spec, records)
