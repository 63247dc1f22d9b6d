"""One Slurm for all tests of this folder, and one sweep that is sent through everything that a cluster does to it."""

from collections.abc import Iterator

import pytest
from slurm_cluster import cluster, missing
from slurm_story import Story, tell


@pytest.fixture(scope="session")
def slurm() -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands reach a cluster of four processors."""
    if reason := missing():
        pytest.skip(reason)
    with cluster(cpus=4) as environment:
        yield environment


@pytest.fixture(scope="session")
def story(slurm: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A sweep that Slurm ran, with all that happened to it, and the same sweep on this machine."""
    return tell(tmp_path_factory.mktemp("story"), slurm)
