"""Two gloo processes with a share of each batch do what one process does with all of it."""

import os
from pathlib import Path
from typing import Any

import distributed_work
import pandas as pd
import pytest
import torch
from distributed_work import WORDS
from safetensors.torch import load_file

from peace.cli import main
from peace.config import compose, run_directory
from peace.errors import PeaceError
from peace.training import together as module
from peace.training.fit import CHECKPOINT
from peace.training.place import find_place
from peace.training.together import together

pytestmark = pytest.mark.filterwarnings("ignore:`broadcast_buffers` is deprecated")


def found(out: Path) -> list[dict[str, Any]]:
    return [torch.load(out / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


# 3 MLPs and 2 CNNs are 3 and 2 pairs; 2 and 1 leave the second process without a CNN; 3 and 0 leave both without.
@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize("batch", ["3 and 2", "2 and 1", "3 and 0"])
def test_loss_and_gradients_are_those_of_one_process(batch: str, zoo: str, two_processes: Path) -> None:
    expected = distributed_work.outcome(distributed_work.Forward(), distributed_work.batches(zoo)[batch])
    unused = {name for name, value in expected.items() if value is None}
    assert bool(unused) == (batch == "3 and 0") and len(expected) > 30
    assert_as_alone(batch, expected, two_processes)


def assert_as_alone(case: str, expected: dict[str, torch.Tensor | None], two_processes: Path) -> None:
    for outcome in found(two_processes):
        assert outcome[case].keys() == expected.keys()
        for name, value in expected.items():
            shared = outcome[case][name]
            assert (shared is None) == (value is None), name
            if value is not None:
                torch.testing.assert_close(shared, value, atol=1e-10, rtol=1e-10, msg=name)


@pytest.fixture(scope="session")
def alone(zoo: str) -> dict[str, dict[str, torch.Tensor | None]]:
    """What becomes of whole batches in one process."""
    return distributed_work.outcomes(distributed_work.batches(zoo), lambda model: model, lambda views: views)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log")
@pytest.mark.parametrize(("loss", "bank"), distributed_work.CASES)
def test_every_loss_is_that_of_one_process(
    loss: str, bank: bool, alone: dict[str, dict[str, torch.Tensor | None]], two_processes: Path
) -> None:
    expected = alone[f"{loss}, {bank}"]
    assert expected["loss"] and expected["embedder.head.0.weight"].any()
    # 3 models, 3 and 5 went into a bank of 7.
    assert bool(expected.get("bank.taken") == 11) == bank == bool(expected.get("loss.temperature.logarithm"))
    without = alone[f"{loss}, False"]
    assert not bank or abs(expected["loss"] - without["loss"]) > 1e-3, "the bank ought to count"
    assert_as_alone(f"{loss}, {bank}", expected, two_processes)


def test_a_signal_to_one_process_stops_both_at_the_same_step(two_processes: Path) -> None:
    stop = distributed_work.STOP + 1
    for outcome in found(two_processes):
        assert outcome["stopped"] == f"130: stopped at step {stop} of 6; run the same command again to go on"
        assert outcome["whole"] == outcome["resumed"] == "done"


def test_a_training_that_was_stopped_ends_as_if_it_never_was(two_processes: Path) -> None:
    whole, parts = (torch.load(two_processes / run / CHECKPOINT, weights_only=True) for run in ("whole", "parts"))
    assert whole["global_step"] == parts["global_step"] == distributed_work.STEPS
    for name, tensor in whole["state_dict"].items():
        assert torch.equal(tensor, parts["state_dict"][name]), name
    (first,), (second,) = whole["optimizer_states"], parts["optimizer_states"]
    for place, state in first["state"].items():
        assert all(torch.equal(value, second["state"][place][name]) for name, value in state.items())
    whole_log, parts_log = (log(two_processes / run) for run in ("whole", "parts"))
    assert whole_log["train/loss"].tolist() == parts_log["train/loss"].tolist()
    assert whole_log["val/knn"].dropna().tolist() == parts_log["val/knn"].dropna().tolist()


def log(run: Path) -> pd.DataFrame:
    return pd.concat(map(pd.read_csv, sorted(run.glob("logs/*/metrics.csv")))).groupby("step").last()


@pytest.mark.slow
def test_the_command_trains_on_two_devices_as_on_one(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    threads, environment = torch.get_num_threads(), dict(os.environ)
    assert main(["pretrain", *WORDS, "experiment=one"]) == 0
    capfd.readouterr()
    assert main(["pretrain", *WORDS, "experiment=two", "trainer.devices=2"]) == 0
    assert capfd.readouterr().out.count("embedder ") == 1
    assert dict(os.environ) == environment and not torch.distributed.is_initialized()
    torch.set_num_threads(threads)
    one, two = (home / run_directory(compose("pretrain", [*WORDS, f"experiment={name}"])) for name in ("one", "two"))
    first, second = (load_file(run / "embedder" / "embedder.safetensors") for run in (one, two))
    for name, tensor in first.items():
        torch.testing.assert_close(second[name], tensor, atol=1e-4, rtol=1e-4, msg=name)
    for name, values in log(one).items():
        assert log(two)[name].tolist() == pytest.approx(values.tolist(), rel=1e-5, nan_ok=True), name
    # The other number of devices finds the same run, and that it is done.
    assert main(["pretrain", *WORDS, "experiment=one", "trainer.devices=2"]) == 0
    assert "was trained already" in capfd.readouterr().out


@pytest.mark.slow
def test_the_failure_of_another_process_is_the_training_s(monkeypatch: pytest.MonkeyPatch) -> None:
    before, children = dict(os.environ), []
    start = module._start
    monkeypatch.setattr(module, "_start", lambda *given: children.extend(start(*given)) or children)
    with (
        pytest.raises(PeaceError, match="another process of the training ended with exit code 3") as caught,
        together(find_place(2, 1, {}), "sys:exit", 3),  # type: ignore[arg-type]
    ):
        assert os.environ["WORLD_SIZE"] == "2"
        assert [child.wait() for child in children] == [3]
        raise RuntimeError("Connection closed by peer")
    assert type(caught.value) is PeaceError and dict(os.environ) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there are GPUs")
def test_gpus_that_are_not_there_are_refused(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", *WORDS, "trainer.accelerator=gpu", "trainer.devices=2"]) == 2
    assert "not as many GPUs as asked for in 'trainer.devices': got 0, expected 2;" in capfd.readouterr().err


def test_more_processes_than_models_are_refused(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", *WORDS, "trainer.devices=6"]) == 2
    assert capfd.readouterr().err == (
        "peace: a batch has fewer models than there are processes to share it: got 5, expected at least 6; "
        "lower trainer.devices.\n"
    )


def test_statistics_of_a_share_are_refused(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["pretrain", *WORDS, "trainer.devices=2", "head.batch_norm=true"]) == 2
    assert "which processes share in 'head.batch_norm': got true with 2 processes; train" in capfd.readouterr().err
