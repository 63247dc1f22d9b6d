import json
from pathlib import Path

import pandas as pd
import pytest
import torch

from peace.errors import InputError
from peace.graph.build import from_architecture
from peace.models.loading import chunks, load_stacks, single
from peace.zoo.architectures import build
from peace.zoo.initialisation import initialise
from peace.zoo.storage import Zoo, write_stack

NODES = [
    {"name": "mlp", "input_shape": [1, 3, 3], "outputs": 4, "activation": "tanh", "hidden": [6]},
    {"name": "cnn", "input_shape": [1, 5, 5], "outputs": 3, "activation": "relu", "channels": [4], "kernels": [2],
     "pools": [2], "hidden": []},
]  # fmt: skip


def tensors(node: dict[str, object], seeds: range) -> dict[str, torch.Tensor]:
    return initialise(build(node), "normal", torch.tensor(list(seeds)))


@pytest.fixture
def zoo(tmp_path: Path) -> Zoo:
    """Models a0 to a5 of one architecture, in two files, and b0 to b2 of another; seeds are as in the id."""
    rows = []
    for letter, node, shards in (("a", NODES[0], (range(0, 4), range(4, 6))), ("b", NODES[1], (range(3),))):
        for shard, seeds in enumerate(shards):
            file = f"{letter}-{shard}.safetensors"
            write_stack(tmp_path, file, tensors(node, seeds))
            rows += [
                {"id": f"{letter}{seed}", "architecture": letter, "architecture_config": json.dumps(node),
                 "weights_file": file, "weights_index": index, "seed": seed} for index, seed in enumerate(seeds)
            ]  # fmt: skip
    return Zoo(tmp_path, pd.DataFrame(rows))


def test_stacks_hold_the_rows_that_come_with_them(zoo: Zoo) -> None:
    shuffled = zoo.rows.sample(frac=1, random_state=3)
    stacks, rows = load_stacks(zoo, shuffled)
    assert [len(stack) for stack in stacks] == [3, 6] or [len(stack) for stack in stacks] == [6, 3]
    assert sorted(rows["id"]) == sorted(zoo.rows["id"]) and rows.index.tolist() == list(range(9))
    flat = [stack.select([place]) for stack in stacks for place in range(len(stack))]
    for model, row in zip(flat, rows.to_dict("records"), strict=True):
        node = json.loads(row["architecture_config"])
        assert model.graph == from_architecture(row["architecture_config"])
        expected = tensors(node, range(row["seed"], row["seed"] + 1))
        found = model.tensors(like=expected)
        assert all(torch.equal(found[name], tensor) for name, tensor in expected.items()), row["id"]


def test_some_rows_are_loaded_in_their_order(zoo: Zoo) -> None:
    stacks, rows = load_stacks(zoo, zoo.rows[zoo.rows["id"].isin(["a5", "a1", "a4"])].iloc[::-1])
    assert rows["id"].tolist() == ["a5", "a4", "a1"] and len(stacks) == 1
    expected = torch.cat([tensors(NODES[0], range(seed, seed + 1))["1.weight"] for seed in (5, 4, 1)])
    assert torch.equal(stacks[0].weights[0][..., 0], expected)


def test_weights_of_another_architecture_are_refused(zoo: Zoo) -> None:
    zoo.rows.loc[zoo.rows["architecture"] == "b", "weights_file"] = "a-0.safetensors"
    with pytest.raises(InputError, match="tensors do not fit the architecture"):
        load_stacks(zoo, zoo.rows)


def test_a_missing_file_is_refused(zoo: Zoo) -> None:
    (zoo.folder / "weights" / "a-1.safetensors").unlink()
    with pytest.raises(InputError, match=r"cannot read the zoo's weights in .*a-1\.safetensors"):
        load_stacks(zoo, zoo.rows)


def test_one_state_dict_is_a_stack_of_one_in_float32() -> None:
    state = build(NODES[1]).double().state_dict()
    stack = single(json.dumps(NODES[1]), state)
    assert len(stack) == 1 and stack.weights[0].dtype == torch.float32
    assert torch.equal(stack.weights[0][0], state["0.weight"].flatten(2).float())
    assert torch.equal(stack.biases[1][0], state["4.bias"].float())
    with pytest.raises(InputError, match="tensors do not fit the architecture"):
        single(json.dumps(NODES[0]), state)


@pytest.mark.parametrize(("models", "sizes"), [(1, [1] * 9), (2, [2, 2, 2, 2, 1]), (4, [4, 2, 3]), (100, [6, 3])])
def test_chunks_hold_every_model_once_in_order(zoo: Zoo, models: int, sizes: list[int]) -> None:
    parts = chunks(zoo, zoo.rows, models)
    assert sorted(len(part) for part in parts) == sorted(sizes)
    assert all(part["architecture_config"].nunique() == 1 for part in parts)
    assert pd.concat(parts)["id"].tolist() == load_stacks(zoo, zoo.rows)[1]["id"].tolist()
