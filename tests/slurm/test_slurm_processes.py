"""One training of two processes that `srun` starts, through a signal in the middle of an epoch."""

import pytest
import torch
from slurm_home import EXPERIMENT, Home, finished, same

_STEPS = """
steps:
  - {command: peace zoo train tiny tracking=none, once: experiment}
  - {command: peace pretrain tracking=none, only: {method: [peace]}}
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
    home = shortened(Home.make(tmp_path_factory.mktemp("srun"), 1, slurm))
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
    finished(alone.start("sweep", EXPERIMENT, "--local", "trainer.devices=2"))
    found, expected = (torch.load(each.run("peace") / "last.ckpt", weights_only=True) for each in (home, alone))
    assert found["global_step"] == 40
    assert same(found["state_dict"], expected["state_dict"])
    assert same(found["optimizer_states"], expected["optimizer_states"])
