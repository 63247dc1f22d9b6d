"""The experiment symmetry_coverage on two networks: its records say what they should, and its table reads them."""

from pathlib import Path

import pytest
import torch
from symmetry_coverage import NETWORKS, floating, measure, relative_change
from torch import nn

from peace.config import folder
from peace.errors import InputError
from peace.graph.derive import derive
from peace.reporting.record import read_records
from peace.reporting.table import make_table

EXPERIMENT = "symmetry_coverage"


def test_the_records_hold_coverage_exactness_and_seconds(tmp_path: Path) -> None:
    words = ["network=siren", "network=decoder", "seed=3", f"paths.results={tmp_path}"]
    assert [path.parent.name for path in measure.main(words)] == ["siren", "decoder"]
    decoder, siren = sorted(read_records(tmp_path / "records", EXPERIMENT), key=lambda record: record.row["network"])
    value = {name: metric.value for name, metric in siren.metrics.items()}
    # Three hidden axes of 64 sines each: 64! renumberings and 2^64 signs.
    assert siren.counts == {"parameters": 3 * 64 + 2 * 65 * 64 + 65 * 3, "hidden axes": 3, "hidden channels": 192,
                            "elements": 5}  # fmt: skip
    assert value["log10_order"] == pytest.approx(3 * (89.1033 + 64 * 0.30103), abs=1e-2)
    assert value["axes_permutable"] == value["channels_permutable"] == value["written_permutable"] == 1.0
    assert value["parameters_moved"] == pytest.approx(1 - 3 / 8707, abs=2e-3) and "blocks_permutable" not in value
    assert 0 < value["function_error"] < 1e-9 and value["operations_pinned"] == 0 and siren.notes["pinned"] == []
    assert value["ratio"] == pytest.approx(value["seconds_to_derive"] / (value["seconds_of_passes"] + 2), rel=1e-4)
    assert decoder.metrics["blocks_permutable"].value == 1.0 and decoder.notes["kind"] == "transformer"
    table = make_table(EXPERIMENT, folder("experiments"), tmp_path / "records")
    assert "SIREN" in table.markdown and "log10 of the order" in table.markdown


def test_a_network_that_there_is_not_is_told() -> None:
    with pytest.raises(InputError, match="did you mean 'resnet18'"):
        measure.main(["network=resnet19"])


def test_every_network_has_a_row_of_the_table() -> None:
    text = (folder("experiments") / EXPERIMENT / "table.yaml").read_text()
    assert [line.split("network: ")[1].split("}")[0] for line in text.splitlines() if "network: " in line] == [
        *NETWORKS
    ]


def test_written_channels_count_whatever_is_held() -> None:
    class Summed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.last = nn.Linear(3, 6), nn.Linear(6, 4), nn.Linear(4, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(self.second(self.first(x).relu()).cumsum(1))

    module = Summed()
    group = derive(module, torch.zeros(1, 3))
    assert measure.written_permutable(module, group) == pytest.approx(6 / 10)
    # Whoever writes what is held and whoever reads it are held apart.
    assert (group.permutable_channels, group.hidden_channels) == (6, 6 + 4 + 4)
    assert {pinned.operation for pinned in group.pinned} == {"aten.cumsum.default"}


def test_a_change_is_measured_and_the_module_restored() -> None:
    module = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 4.0]]))
    own = floating(module)
    changed = {"weight": torch.tensor([[1.0, 0.0], [0.0, 3.0]])}
    assert relative_change(module, (torch.ones(1, 2),), changed) == pytest.approx(0.25)
    assert torch.equal(module.weight, own["weight"])
