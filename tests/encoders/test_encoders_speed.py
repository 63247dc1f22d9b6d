"""The experiment on the encoders' speed, on four models for two steps: its records say what they should."""

from pathlib import Path

import pytest
import torch
from encoder_speed import EDGE_LISTS, POPULATIONS, measure, population, training_steps

from peace.config import folder
from peace.encoders import ENCODERS
from peace.errors import InputError
from peace.reporting.record import read_records
from peace.reporting.table import make_table

EXPERIMENT = "encoder_speed"


def test_the_record_holds_the_times_of_both_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MODELS", 4), ("ROUNDS", 3), ("WARM_UP", 1), ("THREADS", 1)):
        monkeypatch.setattr(training_steps, name, value)
    words = ["part=training", "encoder=network_gnn", "encoder=raw", "seed=2", f"paths.results={tmp_path}"]
    assert len(measure.main(words)) == 2
    network, raw = sorted(read_records(tmp_path / "records", EXPERIMENT), key=lambda record: record.row["encoder"])
    assert network.row == {"part": "training", "encoder": "network_gnn"} and network.seed == 2
    assert network.counts == {"models": 4, "steps": 3} and network.notes["threads"] == 1
    value = {name: metric.value for name, metric in network.metrics.items()}
    for name in POPULATIONS:
        own, edges = (network.notes[f"{name}, ms of each step, {way}"] for way in ("own", "edge list"))
        assert len(own) == len(edges) == 3
        assert value[f"{name}_ms"] == pytest.approx(sorted(own)[1], abs=0.01)
        assert value[f"{name}_edge_list_ms"] == pytest.approx(sorted(edges)[1], abs=0.01)
        assert value[f"{name}_models_per_second"] == pytest.approx(4000 / value[f"{name}_ms"], rel=1e-3)
        assert value[f"{name}_times_faster"] == pytest.approx(
            value[f"{name}_edge_list_ms"] / value[f"{name}_ms"], rel=1e-3
        )
        assert 0 < value[f"{name}_difference"] < 1e-5
    assert raw.metrics.keys() == {f"{name}_{key}" for name in POPULATIONS for key in ("ms", "models_per_second")}
    table = make_table(EXPERIMENT, folder("experiments"), tmp_path / "records")
    assert "times faster" in table.markdown and "network_gnn" in table.markdown


def test_the_populations_are_what_they_are_called() -> None:
    sizes = {"siren": [(32, 2, 1), (32, 32, 1), (1, 32, 1)],
             "cnn": [(16, 1, 9), (16, 16, 9), (16, 16, 9), (10, 16, 1)]}  # fmt: skip
    weights = {"siren": 1185, "cnn": 4970}
    for name, shapes in sizes.items():
        stack = population(name, 2, 0)
        assert [tuple(weight.shape[1:]) for weight in stack.weights] == shapes
        assert (
            sum(w[0].numel() + b[0].numel() for w, b in zip(stack.weights, stack.biases, strict=True)) == weights[name]
        )
        assert stack.weights[0].dtype == torch.float32 and not torch.equal(stack.weights[0][0], stack.weights[0][1])
        # In canonical form, where ReLUs allow it: each hidden channel's incoming weights and bias at norm 1.
        rows = torch.cat([stack.weights[0].flatten(2), stack.biases[0][:, :, None]], dim=2).norm(dim=2)
        assert torch.allclose(rows, torch.ones_like(rows)) == (name == "cnn")


def test_every_encoder_has_a_row_and_a_reference_where_it_is_dense() -> None:
    text = (folder("experiments") / EXPERIMENT / "table.yaml").read_text()
    rows = [line.split("encoder: ")[1].split("}")[0] for line in text.splitlines() if "part: training" in line]
    assert rows == ENCODERS.names() and EDGE_LISTS.keys() <= set(rows)


@pytest.mark.parametrize(("word", "expected"), [("part=train", "training"), ("encoder=network", "network_gnn")])
def test_unknown_words_are_refused(word: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"did you mean '{expected}'"):
        measure.main([word, f"paths.results={tmp_path}"])
    assert not list(tmp_path.iterdir())
