"""One training of two processes that `srun` starts, through a signal in the middle of an epoch."""

import pytest
import torch
from slurm_home import EXPERIMENT, Home

from bit_equal import same

_STEPS = """
steps:
  - {command: peace zoo train tiny tracking=none, once: experiment}
  - {command: peace pretrain, only: {method: [peace]}}
"""


def shortened(home: Home) -> Home:
    """The experiment, less what comes after its first training."""
    spec = home.path / "experiments" / EXPERIMENT / "sweep.yaml"
    spec.write_text(spec.read_text().partition("steps:")[0] + _STEPS)
    return home


@pytest.mark.slow
def test_two_processes_of_srun_train_what_two_processes_without_slurm_train(
    slurm: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = shortened(Home.make(tmp_path_factory.mktemp("srun"), 1, {**slurm, "WANDB_MODE": "offline"}))
    (home.path / "slurm" / "cluster.sh").write_text('export PEACE_SBATCH_PRETRAIN="--ntasks-per-node=2"\n')
    home.peace("sweep", EXPERIMENT, "--submit")
    checkpoint = home.run("peace") / "last.ckpt"
    home.wait(checkpoint.is_file, "the training to begin", every=0.05)
    # As Slurm does before the time limit, but now.
    home.slurm("scancel", "--signal=USR1", "--batch", home.state("peace pretrain ")["job"])
    home.drain()
    assert [line.state for line in home.status()] == ["done", "done"], home.logs()
    assert "Restarts=1 " in home.slurm("scontrol", "show", "job", home.state("peace pretrain ")["job"])

    alone = shortened(Home.make(tmp_path_factory.mktemp("alone"), 1))
    trainer = alone.path / "configs" / "trainer" / "tiny.yaml"
    trainer.write_text(trainer.read_text().replace("devices: 1", "devices: 2"))
    alone.peace("sweep", EXPERIMENT, "--local")
    assert len(list((home.run("peace") / "wandb").glob("offline-run-*"))) == 2, "of the first process alone"
    found, expected = (torch.load(each.run("peace") / "last.ckpt", weights_only=True) for each in (home, alone))
    assert found["global_step"] == 40
    assert same(found["state_dict"], expected["state_dict"])
    assert same(found["optimizer_states"], expected["optimizer_states"])
