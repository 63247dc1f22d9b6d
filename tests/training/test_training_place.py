import pytest

from peace.errors import InputError
from peace.training.place import Place, find_place

BATCH = {"SLURM_JOB_ID": "41", "SLURM_NTASKS": "1", "SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": "0",
         "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "pretrain"}  # fmt: skip


def step(tasks: int, spread: str, node: int = 0, local: int = 0, nodes: str = "gpu[03,07-08]") -> dict[str, str]:
    """What `srun` tells one of several processes."""
    return {**BATCH, "SLURM_STEP_NUM_TASKS": str(tasks), "SLURM_STEP_TASKS_PER_NODE": spread, "SLURM_STEP_ID": "2",
            "SLURM_NODEID": str(node), "SLURM_LOCALID": str(local), "SLURM_STEP_NODELIST": nodes}  # fmt: skip


@pytest.mark.parametrize("environment", [{}, BATCH, step(1, "1"), {"LOCAL_RANK": "0"}])
def test_a_process_alone_needs_nobody(environment: dict[str, str]) -> None:
    place = find_place(1, 1, environment)
    assert place == Place() and place.first


@pytest.mark.parametrize("environment", [{}, BATCH, step(1, "1"), {"MASTER_PORT": "1"}])
def test_what_runs_alone_starts_the_others_of_its_machine(environment: dict[str, str]) -> None:
    place = find_place(3, 1, environment)
    assert place == Place(devices=3, starts=True, port=place.port) and place.first and place.port > 1023


def test_srun_starts_a_process_for_each_device() -> None:
    port = 15_000 + 41 * 7 + 2
    place = find_place(4, 2, step(8, "4(x2)", node=1, local=3))
    assert place == Place(4, 2, 1, 3, "gpu03", port) and not place.first
    assert place.variables() == {
        "MASTER_ADDR": "gpu03", "MASTER_PORT": str(port), "NODE_RANK": "1", "LOCAL_RANK": "3", "WORLD_SIZE": "8",
    }  # fmt: skip
    assert find_place(2, 1, step(2, "2", nodes="n1")) == Place(2, 1, 0, 0, "n1", port)
    assert [find_place(1, 2, step(2, "1(x2)", node=node)).first for node in (0, 1)] == [True, False]


def test_srun_starts_a_process_for_each_node_which_starts_the_others() -> None:
    place = find_place(4, 2, step(2, "1(x2)", node=1))
    assert place == Place(4, 2, 1, 0, "gpu03", 15_000 + 41 * 7 + 2, starts=True)
    # What it starts hears the same from it as from torchrun.
    assert find_place(4, 2, {**step(2, "1(x2)", node=1), **place.variables(), "LOCAL_RANK": "3"}) == Place(
        4, 2, 1, 3, "gpu03", place.port
    )


def test_a_given_meeting_point_is_taken() -> None:
    environment = {**step(2, "1(x2)"), "MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "4000"}
    assert find_place(1, 2, environment) == Place(1, 2, 0, 0, "10.0.0.1", 4000)


def test_torchrun_says_where_a_process_stands() -> None:
    environment = {"LOCAL_RANK": "1", "GROUP_RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "a", "MASTER_PORT": "99"}
    assert find_place(2, 2, environment) == Place(2, 2, 1, 1, "a", 99)
    with pytest.raises(InputError, match=r"devices: got 4, expected 2; set trainer\.devices"):
        find_place(2, 1, environment)


def test_a_person_may_start_one_process_on_each_machine() -> None:
    environment = {"NODE_RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "99"}
    assert find_place(2, 3, environment) == Place(2, 3, 1, 0, "a", 99, starts=True)
    assert find_place(1, 3, environment) == Place(1, 3, 1, 0, "a", 99)
    with pytest.raises(InputError, match=r"start it with srun, or set MASTER_PORT, NODE_RANK on each node\."):
        find_place(2, 3, {"MASTER_ADDR": "a"})


@pytest.mark.parametrize(
    ("devices", "nodes", "tasks", "spread"), [(1, 1, 2, "2"), (2, 1, 4, "4"), (2, 2, 4, "3,1"), (2, 1, 2, "1(x2)")]
)
def test_a_step_of_other_size_is_refused(devices: int, nodes: int, tasks: int, spread: str) -> None:
    with pytest.raises(InputError, match="srun started other processes than the config asks for: got") as caught:
        find_place(devices, nodes, step(tasks, spread))
    assert f"got {spread} a node" in str(caught.value)
