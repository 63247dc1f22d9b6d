"""The experiment on the encoders' speed, on four models for two steps: its records say what they should."""

from pathlib import Path

import pytest
import torch
import yaml
from encoder_speed import (
    EDGE_LISTS,
    POPULATIONS,
    checkpoints,
    growing_checkpoints,
    large_checkpoints,
    measure,
    population,
    training_steps,
)
from torch.utils.flop_counter import FlopCounterMode

from peace.config import compose, folder
from peace.errors import InputError
from peace.models.embedder import build_embedder
from peace.reporting.record import read_records
from peace.reporting.table import make_table
from peace.zoo.readers import write_safetensors

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
    spec = yaml.safe_load((folder("experiments") / EXPERIMENT / "table.yaml").read_text())
    rows = {
        part: [row["row"]["encoder"] for row in spec["rows"] if row["row"]["part"] == part] for part in measure.PARTS
    }
    assert rows["training"] == measure.timed() and EDGE_LISTS.keys() <= set(rows["training"])
    assert rows["large"] == rows["growing"] == checkpoints.streamed(measure.timed())
    assert checkpoints.streamed(["gat", "layer_gnn", "network_gnn"]) == ["layer_gnn"]


def test_large_checkpoints_are_timed_beside_a_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "REPEATS", 1)
    monkeypatch.setattr(large_checkpoints, "THREADS", 1)
    monkeypatch.setattr(large_checkpoints, "NETWORKS", {"tiny": ""})
    tensors = {"0.weight": torch.randn(256, 128, 3, 3), "1.weight": torch.randn(100, 256), "1.bias": torch.randn(100)}
    monkeypatch.setattr(large_checkpoints, "image_network", lambda _, path, seed: write_safetensors(path, tensors, {}))
    monkeypatch.setattr(large_checkpoints, "peak_bytes", lambda encoder, path, seed: 3 * path.stat().st_size)
    paths = list(large_checkpoints.records(tmp_path, 0, ["layer_gnn", "network_gnn", "raw"], ["tiny"]))
    assert len(paths) == 2
    layer, raw = sorted(read_records(tmp_path, EXPERIMENT), key=lambda record: record.row["encoder"])
    value = {name: metric.value for name, metric in layer.metrics.items()}
    assert layer.row == {"part": "large", "encoder": "layer_gnn"} and value["tiny_memory"] == 3
    assert value["tiny_ratio"] == pytest.approx(value["tiny_seconds"] / value["tiny_seconds_of_product"], rel=1e-3)
    assert value["tiny_ratio_as_written"] < value["tiny_ratio"], "nodes that are alike cost nothing"
    assert layer.counts["tiny, bytes"] > 4 * 300_000 and layer.counts["tiny, operations"] > 2 * 300_000
    assert raw.metrics.keys() == {"tiny_seconds", "tiny_memory"}, "it folds weights, and multiplies none"


def test_a_bare_product_has_as_many_operations_as_asked_for() -> None:
    with FlopCounterMode(display=False) as counter:
        checkpoints.bare_product(10**9)()
    assert counter.get_total_flops() == pytest.approx(10**9, rel=0.01)


def test_operations_as_written_are_those_of_steps_on_nodes_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "two.safetensors"
    tensors = {"0.weight": torch.randn(30, 20), "0.bias": torch.randn(30), "1.weight": torch.randn(7, 5, 3, 3)}
    write_safetensors(path, tensors, {})
    made = {
        steps: build_embedder(compose("pretrain", ["encoder=layer_gnn", f"encoder.num_layers={steps}"]))
        for steps in (2, 3)
    }
    counted = {steps: checkpoints.operations(made[steps], path) for steps in made}
    # On the way back each of a kernel's taps is multiplied with its gate in a product.
    gates = 2 * 64 * 5 * 9
    assert checkpoints.operations_as_written(made[3].encoder, path) == 3 * (counted[3] - counted[2] - gates)


def test_attention_is_counted(tmp_path: Path) -> None:
    """By how much 8 more nodes raise the operations of attention: 4 n² H in each of 2 updates."""
    found = {}
    for nodes in (1000, 1008):
        path = tmp_path / f"{nodes}.safetensors"
        write_safetensors(path, {"0.weight": torch.randn(nodes, 16)}, {})
        found[nodes] = checkpoints.operations(checkpoints.embedder("output_gnn", 0), path)
    attention = 2 * 4 * 64 * (1008**2 - 1000**2)
    assert attention < found[1008] - found[1000] < 1.2 * attention


def test_the_slope_of_growing_seconds() -> None:
    exact = growing_checkpoints.log_slope({size: 2e-9 * size**1.5 for size in (10**3, 10**4, 10**5)})
    assert exact == pytest.approx((1.5, 0), abs=1e-6)
    # By hand: slope 1/2 of (0, 0), (1, 1), (2, 1); residuals -1/6, 1/3, -1/6; t(0.975, 1) = 12.706.
    slope, margin = growing_checkpoints.log_slope({1: 1.0, 10: 10.0, 100: 10.0})
    assert (slope, margin) == pytest.approx((0.5, 12.7062 * (1 / 6 / 2) ** 0.5), rel=1e-4)


def test_growing_checkpoints_are_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "REPEATS", 1)
    monkeypatch.setattr(growing_checkpoints, "THREADS", 1)
    monkeypatch.setattr(growing_checkpoints, "WIDTHS", {30_000: 16, 100_000: 32, 300_000: 64})
    paths = list(growing_checkpoints.records(tmp_path, 0, ["layer_gnn", "scale_gnn"], [30_000, 100_000, 300_000]))
    assert len(paths) == 1
    (record,) = read_records(tmp_path, EXPERIMENT)
    sizes = {"30K": (16, 10), "100K": (32, 8), "300K": (64, 6)}
    parameters = {f"parameters, {name}": blocks * (12 * w * w + 9 * w) for name, (w, blocks) in sizes.items()}
    assert record.counts == {"repeats": 5, **parameters}
    assert record.metrics.keys() == {"slope", *(f"seconds_{name}" for name in sizes)}
    slope = record.metrics["slope"]
    assert slope.low < slope.value < slope.high


@pytest.mark.slow  # a process of its own imports everything
def test_memory_is_about_the_largest_layer(tmp_path: Path) -> None:
    folder = tmp_path / "grown"
    parameters = checkpoints.transformer(folder, 1024, 8, 0)
    # The largest layer has a third of a block's weights.
    largest, peak = 4 * 4 * 1024**2, checkpoints.peak_bytes("layer_gnn", folder, 0)
    assert largest / 2 < peak < 4 * parameters / 2


@pytest.mark.parametrize(("word", "expected"), [("part=train", "training"), ("encoder=network", "network_gnn")])
def test_unknown_words_are_refused(word: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"did you mean '{expected}'"):
        measure.main([word, f"paths.results={tmp_path}"])
    assert not list(tmp_path.iterdir())
