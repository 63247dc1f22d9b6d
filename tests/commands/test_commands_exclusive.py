"""While a process writes to a run directory, no other does, but for the parts of an embedding."""

from commands_home import Home, Peace, snapshot, verb

from peace.exclusive import exclusive


def test_a_run_directory_that_is_being_written_to_is_left_alone(copied: Home, peace: Peace) -> None:
    run = copied.run()
    before = snapshot(run)
    with exclusive(run):
        for words in (verb("pretrain"), verb("embed"), verb("embed", "embed.merge=2")):
            finished = peace(*words)
            assert finished.code == 1
            assert finished.err.startswith("peace: another process is writing to this run directory: ")
        assert snapshot(run) == before
        assert peace(*verb("embed", "embed.shard=1/2", "embed.batch_size=8")).code == 0
        assert snapshot(run).keys() - before.keys() == {"parts", "parts/1_of_2.safetensors"}
    assert peace(*verb("embed")).code == 0
