"""A run stopped anywhere and started again is bit-identical to one that never stopped."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch

from bit_equal import same
from peace.errors import InputError, PeaceError
from peace.interruption import Interrupted
from peace.losses.bank import Bank
from peace.training.fit import CHECKPOINT, TrainerConfig, fit
from peace.training.module import Contrastive
from peace.training.negatives import NegativesConfig
from peace.training.pool import Views
from peace.training.sampler import SamplerConfig

MAX_STEPS = 10

Make = Callable[..., object]


class Killed(Exception):
    """Stands for whatever ends a process without asking."""


class Disturbed(Contrastive):
    """A module to which something happens at the start of one step."""

    def on_train_batch_start(self, batch: Views, batch_idx: int) -> None:
        super().on_train_batch_start(batch, batch_idx)
        if self.global_step == self.at:
            self.happening()


def disturbed(module: Contrastive, at: int, happening: Callable[[], None]) -> Contrastive:
    module.__class__ = Disturbed
    module.at, module.happening = at, happening
    return module


def signalled(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def killed() -> None:
    raise Killed


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, make_module: Make, make_data: Make, make_trainer: Make) -> Path:
    """The directory of a run that never stopped."""
    run = tmp_path_factory.mktemp("whole")
    fit(make_module(), make_data(), make_trainer(), run)
    return run


def checkpoint(run: Path) -> dict:
    return torch.load(run / CHECKPOINT, weights_only=True)


def logs(run: Path) -> pd.DataFrame:
    """What all parts of a run logged, later parts taking the place of what they repeat."""
    parts = [pd.read_csv(path) for path in sorted(run.glob("logs/*/metrics.csv"))]
    return pd.concat(parts).groupby("step").last().drop(columns="epoch", errors="ignore")


def test_a_run_logs_every_step_and_looks_at_val_after_each_epoch(whole: Path) -> None:
    content, found = checkpoint(whole), logs(whole)
    assert content["global_step"] == MAX_STEPS
    assert found.index[found["train/loss"].notna()].tolist() == list(range(MAX_STEPS))
    assert found.index[found["val/knn"].notna()].tolist() == [3, 7]
    assert found["val/knn"].dropna().between(0, 1).all() and (found["val/effective_rank"].dropna() >= 1).all()
    assert found["train/loss"].is_unique
    assert sorted(path.name for path in whole.iterdir()) == [CHECKPOINT, "logs"], "no temporary file stays"


# Step 3 is the last of an epoch, step 8 the last but one of all.
@pytest.mark.parametrize(("number", "at"), [(signal.SIGINT, 5), (signal.SIGINT, 3), (signal.SIGTERM, 5),
                                            (signal.SIGTERM, 8)], ids=str)  # fmt: skip
def test_a_run_goes_on_where_it_was_asked_to_stop(
    number: int, at: int, run: Path, whole: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match=f"stopped at step {at + 1} of 10; run the same command again") as caught:
        fit(disturbed(make_module(), at, signalled(number)), make_data(), make_trainer(), run)
    assert caught.value.exit_code == 130 and signal.getsignal(number) == before
    assert checkpoint(run)["global_step"] == at + 1
    module = make_module()
    fit(module, make_data(), make_trainer(), run)
    assert_as_if_never_stopped(run, module, whole)
    assert [path.name for path in sorted((run / "logs").iterdir())] == ["from_step_000000", f"from_step_{at + 1:06d}"]


@pytest.mark.parametrize("at", [5, 7])
def test_a_killed_run_goes_on_from_its_last_checkpoint(
    at: int, run: Path, whole: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    with pytest.raises(Killed):
        fit(disturbed(make_module(), at, killed), make_data(), make_trainer(), run)
    assert checkpoint(run)["global_step"] == at // 3 * 3
    module = make_module()
    fit(module, make_data(), make_trainer(), run)
    assert_as_if_never_stopped(run, module, whole)


def assert_as_if_never_stopped(run: Path, module: Contrastive, whole: Path) -> None:
    content, expected = checkpoint(run), checkpoint(whole)
    for part in ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers"):
        assert same(content[part], expected[part]), part
    assert same(module.state_dict(), expected["state_dict"])
    pd.testing.assert_frame_equal(logs(run), logs(whole), check_exact=True, check_like=True)


def test_a_run_stopped_again_and_again_is_the_same(
    run: Path, whole: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    for at in (1, 3, 4, 6):
        with pytest.raises(Interrupted):
            fit(disturbed(make_module(), at, signalled(signal.SIGINT)), make_data(), make_trainer(), run)
    module = make_module()
    fit(module, make_data(), make_trainer(), run)
    assert_as_if_never_stopped(run, module, whole)


def test_a_request_during_validation_stops_at_the_next_step(
    run: Path, whole: Path, make_module: Make, make_data: Make, make_trainer: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(Disturbed, "on_validation_start", lambda module: signalled(signal.SIGTERM)(), raising=False)
    with pytest.raises(Interrupted, match="stopped at step 5 of 10"):
        fit(disturbed(make_module(), -1, killed), make_data(), make_trainer(), run)
    module = make_module()
    fit(module, make_data(), make_trainer(), run)
    assert_as_if_never_stopped(run, module, whole)


def test_logs_are_on_disk_before_a_run_is_killed(
    run: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    def killed_when_seen() -> None:
        assert logs(run).index.tolist() == list(range(7))
        raise Killed

    with pytest.raises(Killed):
        fit(disturbed(make_module(), 7, killed_when_seen), make_data(), make_trainer(), run)


def test_dropout_is_part_of_what_is_resumed(
    run: Path, whole: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    module = make_module()
    module.seed += 1
    fit(module, make_data(), make_trainer(), run)
    assert not same(checkpoint(run)["state_dict"], checkpoint(whole)["state_dict"])


def test_a_request_at_the_last_step_lets_the_run_end(
    run: Path, whole: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    fit(disturbed(make_module(), 9, signalled(signal.SIGTERM)), make_data(), make_trainer(), run)
    assert same(checkpoint(run)["state_dict"], checkpoint(whole)["state_dict"])


def test_a_finished_run_is_not_trained_again(
    run: Path, whole: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    shutil.copytree(whole, run)
    module = disturbed(make_module(), 0, killed)
    fit(module, make_data(), make_trainer(), run)
    assert (run / CHECKPOINT).read_bytes() == (whole / CHECKPOINT).read_bytes()
    assert same(module.state_dict(), checkpoint(whole)["state_dict"])


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[: len(whole) // 2], lambda whole: b"", lambda whole: b"nonsense" * 9]
)
def test_a_damaged_checkpoint_is_refused_and_kept(
    damage: Callable[[bytes], bytes], run: Path, whole: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    shutil.copytree(whole, run)
    content = damage((run / CHECKPOINT).read_bytes())
    (run / CHECKPOINT).write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read the checkpoint in .*last.ckpt: got .*; delete it to") as caught:
        fit(make_module(), make_data(), make_trainer(), run)
    assert (run / CHECKPOINT).read_bytes() == content and "\n" not in str(caught.value)


def test_a_checkpoint_that_would_run_code_is_refused(
    run: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    run.mkdir()
    torch.save({"global_step": 3, "state_dict": Path("x")}, run / CHECKPOINT)
    with pytest.raises(InputError, match=r"cannot read the checkpoint in .*got something else than tensors"):
        fit(make_module(), make_data(), make_trainer(), run)


def test_a_checkpoint_of_another_embedder_is_refused(
    run: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    run.mkdir()
    torch.save({"global_step": 3, "state_dict": make_module("encoder.hidden_dim=16").state_dict()}, run / CHECKPOINT)
    with pytest.raises(
        InputError, match=r"cannot read the checkpoint in .*: got Error.* in loading state_dict"
    ) as caught:
        fit(make_module(), make_data(), make_trainer(), run)
    assert "\n" not in str(caught.value)


def test_a_loss_that_is_not_finite_ends_the_run_and_keeps_the_checkpoint(
    run: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    module = make_module()

    def spoil() -> None:
        with torch.no_grad():
            next(module.embedder.head.parameters()).fill_(torch.nan)

    with pytest.raises(PeaceError, match="the loss is not finite at step 5; the last checkpoint is kept") as caught:
        fit(disturbed(module, 5, spoil), make_data(), make_trainer(), run)
    assert caught.value.exit_code == 1
    content = checkpoint(run)
    assert content["global_step"] == 3 and all(t.isfinite().all() for t in content["state_dict"].values())


def test_mixed_precision_trains_two_steps(run: Path, make_module: Make, make_data: Make, make_trainer: Make) -> None:
    module = make_module()
    start = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    config: TrainerConfig = make_trainer(max_steps=2, precision="bf16-mixed")
    fit(module, make_data(), config, run)
    end = checkpoint(run)["state_dict"]
    assert all(tensor.dtype == torch.float32 and tensor.isfinite().all() for tensor in end.values())
    assert not any(torch.equal(tensor, start[name]) for name, tensor in end.items() if "tap_gates" not in name)


def test_bank_couples_and_budget_are_part_of_what_is_resumed(
    tmp_path: Path, make_module: Make, make_data: Make, make_trainer: Make
) -> None:
    sampler = SamplerConfig(6, weights=10_000, negatives=NegativesConfig(other_architecture=0.4, other_task=0.4))

    def train(run: Path, *stops: int) -> Contrastive:
        for at in stops:
            with pytest.raises(Interrupted):
                module = disturbed(make_module(bank=Bank(20, 8)), at, signalled(signal.SIGINT))
                fit(module, make_data(sampler=sampler), make_trainer(), run)
        module = make_module(bank=Bank(20, 8))
        fit(module, make_data(sampler=sampler), make_trainer(), run)
        return module

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole)
    assert_as_if_never_stopped(parts, train(parts, 1, 6), whole)
    # The bank has come full circle.
    assert checkpoint(whole)["state_dict"]["bank.taken"] == 60
