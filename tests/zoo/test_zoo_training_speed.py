"""The experiment on training speed, on three models for two epochs: its record says what it should."""

from pathlib import Path
from types import ModuleType

import pytest

from experiment_modules import measure_of
from peace.config import folder
from peace.errors import InputError
from peace.reporting.record import read_records
from peace.reporting.table import make_table

EXPERIMENT = "zoo_training_speed"


@pytest.fixture(scope="module")
def measure() -> ModuleType:
    return measure_of(EXPERIMENT)


@pytest.mark.slow
def test_the_record_holds_the_times_and_the_agreement(measure: ModuleType, tmp_path: Path) -> None:
    zoo = (*measure.ZOO, "zoo.seeds=3", "zoo.epochs=2", "zoo.learning_rates=[0.01]")
    path = measure.main(["seed=5", f"paths.results={tmp_path}"], zoo)
    (record,) = read_records(tmp_path / "records", EXPERIMENT)
    assert path == tmp_path / "records" / EXPERIMENT / "population" / "seed5.json"
    assert record.date is not None and record.queries is None
    assert record.counts == {"models": 3, "models alone": 3, "epochs": 2, "steps an epoch": 256}
    value = {name: metric.value for name, metric in record.metrics.items()}
    assert value["ratio"] == pytest.approx(3 * value["seconds_alone_per_model"] / value["seconds_together"], rel=1e-4)
    assert value["seconds_together"] > 0
    assert 0 < value["max_difference_float32"] < 1e-5
    assert 0 < value["max_difference_float64"] < 1e-13
    table = make_table(EXPERIMENT, folder("experiments"), tmp_path / "records")
    assert "times faster" in table.markdown and "1,000 models" in table.markdown


def test_unknown_words_are_refused(measure: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown key 'sed'; did you mean 'seed'"):
        measure.main(["sed=1", f"paths.results={tmp_path}"])
    assert not list(tmp_path.iterdir())
