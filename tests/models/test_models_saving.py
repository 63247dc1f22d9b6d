import json
import shutil
from pathlib import Path

import pytest
import torch
from test_models_baselines import EVERY
from torch import nn

from peace.config import compose
from peace.errors import InputError
from peace.graph.build import from_architecture
from peace.graph.stack import Stack
from peace.models.baselines import BASELINES
from peace.models.embedder import NODES, Embedder, build_embedder
from peace.models.saving import CONFIG, TENSORS, build_producer, load_producer, producer_hash, save_producer
from peace.zoo.architectures import build
from peace.zoo.initialisation import initialise

MLP = {"name": "mlp", "input_shape": [1, 3, 3], "outputs": 4, "activation": "tanh", "hidden": [6]}
CNN = {"name": "cnn", "input_shape": [1, 7, 7], "outputs": 3, "activation": "relu", "channels": [4, 5],
       "kernels": [2, 2], "pools": [2, 1], "hidden": []}  # fmt: skip


def stack(node: dict[str, object], first_seed: int = 0) -> Stack:
    tensors = initialise(build(node), "normal", torch.arange(first_seed, first_seed + 4))
    return Stack.of(from_architecture(json.dumps(node)), tensors)


BATCH = [stack(CNN), stack(MLP)]
PROVENANCE = {"zoo": "abc", "seconds": 1.5}


def config(name: str) -> dict[str, object]:
    return compose("pretrain", [f"producer={name}"])


@pytest.fixture(scope="module")
def trained() -> Embedder:
    """An embedder after one step of training."""
    torch.manual_seed(0)
    embedder = build_embedder(compose("pretrain", []))
    optimizer = torch.optim.AdamW(embedder.parameters(), lr=1e-3)
    embedder.project(embedder.embed(BATCH)).square().mean().backward()
    optimizer.step()
    return embedder.eval()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    baseline = BASELINES.build({"name": "statistics"})
    baseline.fit(BATCH)
    save_producer(tmp_path / "embedder", baseline, config("statistics"), PROVENANCE)
    return tmp_path / "embedder"


def vectors(producer: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return producer.embed([stack(CNN, 10), stack(MLP, 10)])


@pytest.mark.parametrize("name", EVERY)
def test_a_baseline_comes_back_as_it_was(tmp_path: Path, name: str) -> None:
    baseline = build_producer(config(name))
    baseline.fit(BATCH)
    identity = save_producer(tmp_path, baseline, config(name), PROVENANCE)
    loaded, found = load_producer(tmp_path)
    assert found == identity and type(loaded) is type(baseline) and not loaded.training
    assert torch.equal(vectors(loaded), vectors(baseline))
    assert save_producer(tmp_path / "again", loaded, config(name), {}) == identity


def test_a_trained_embedder_comes_back_as_it_was(tmp_path: Path, trained: Embedder) -> None:
    identity = save_producer(tmp_path, trained, config("trained"), PROVENANCE)
    torch.manual_seed(1)
    loaded, found = load_producer(tmp_path)
    assert found == identity and isinstance(loaded, Embedder) and not loaded.training
    assert torch.equal(vectors(loaded), vectors(trained))
    fresh = build_producer(config("trained")).eval()
    assert not torch.allclose(vectors(fresh), vectors(trained))


def test_what_shapes_the_producer_is_kept_and_where_it_came_from(tmp_path: Path, trained: Embedder) -> None:
    save_producer(tmp_path, trained, config("trained"), PROVENANCE)
    content = json.loads((tmp_path / CONFIG).read_text())
    assert content["config"].keys() == {"producer", *NODES}
    assert content["provenance"] == PROVENANCE
    baseline = BASELINES.build({"name": "flat"})
    baseline.fit(BATCH)
    save_producer(tmp_path, baseline, config("flat"), {})
    assert json.loads((tmp_path / CONFIG).read_text())["config"] == {"producer": {"name": "flat"}}
    assert sorted(path.name for path in tmp_path.iterdir()) == [CONFIG, TENSORS]


def test_the_hash_is_that_of_config_and_tensors(tmp_path: Path) -> None:
    baseline = BASELINES.build({"name": "statistics"})
    baseline.fit(BATCH)
    identity = save_producer(tmp_path, baseline, config("statistics"), PROVENANCE)
    assert save_producer(tmp_path, baseline, config("statistics"), {"zoo": "another"}) == identity
    node = {"producer": {"name": "statistics"}}
    assert producer_hash(baseline, node) == identity
    assert producer_hash(baseline, {"producer": {"name": "statistics", "more": 1}}) != identity
    baseline.mean[0] = torch.nextafter(baseline.mean[0], torch.tensor(9.0))
    assert producer_hash(baseline, node) != identity


def test_an_unknown_producer_is_refused() -> None:
    with pytest.raises(InputError, match="unknown baseline 'statistic'; did you mean 'statistics'"):
        build_producer({"producer": {"name": "statistic"}})


def test_any_flipped_byte_of_the_tensors_is_seen(saved: Path) -> None:
    whole = (saved / TENSORS).read_bytes()
    for place in range(len(whole)):
        (saved / TENSORS).write_bytes(_flipped(whole, place))
        with pytest.raises(InputError) as caught:
            load_producer(saved)
        assert "\n" not in str(caught.value)


def test_any_flipped_byte_of_the_description_is_seen_or_harmless(saved: Path) -> None:
    whole, (baseline, identity) = (saved / CONFIG).read_bytes(), load_producer(saved)
    seen = 0
    for place in range(len(whole)):
        (saved / CONFIG).write_bytes(_flipped(whole, place))
        try:
            found, same = load_producer(saved)
        except InputError as error:
            seen += 1
            assert "\n" not in str(error)
        else:
            assert same == identity and torch.equal(vectors(found), vectors(baseline))
    assert seen > len(whole) / 2


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_flipped_byte_of_an_embedder_is_seen(tmp_path: Path, trained: Embedder) -> None:
    save_producer(tmp_path, trained, config("trained"), {})
    whole = (tmp_path / TENSORS).read_bytes()
    for place in (len(whole) // 2, len(whole) - 1):
        (tmp_path / TENSORS).write_bytes(_flipped(whole, place))
        with pytest.raises(InputError, match="the embedder's tensors are not those it was saved with"):
            load_producer(tmp_path)


@pytest.mark.parametrize("name", [TENSORS, CONFIG])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_truncated_file_is_refused(saved: Path, name: str, share: float) -> None:
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(InputError, match=r"cannot read the embedder in .*embedder: got .+"):
        load_producer(saved)


@pytest.mark.parametrize("name", [TENSORS, CONFIG])
def test_a_missing_file_is_refused(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(InputError, match="cannot read the embedder"):
        load_producer(saved)


@pytest.mark.parametrize("text", ["[]", "{}", "7", '{"config": 3}', '{"config": {"producer": "flat"}}',
                                  '{"config": {"producer": {"name": "statistic"}}}',
                                  '{"config": {"producer": {"name": "statistics"}}}', "\\u0000"])  # fmt: skip
def test_a_description_of_something_else_is_refused(saved: Path, text: str) -> None:
    (saved / CONFIG).write_text(text)
    with pytest.raises(InputError, match=r"cannot read the embedder in .*embedder: got .+[^.][.?]$"):
        load_producer(saved)


def test_the_tensors_of_another_producer_are_refused(saved: Path, tmp_path: Path) -> None:
    flat = BASELINES.build({"name": "flat"})
    flat.fit(BATCH)
    save_producer(tmp_path / "flat", flat, config("flat"), {})
    shutil.copy(tmp_path / "flat" / TENSORS, saved / TENSORS)
    with pytest.raises(InputError, match="cannot read the embedder"):
        load_producer(saved)
    other = BASELINES.build({"name": "statistics"})
    other.fit([stack(CNN, 20)])
    save_producer(tmp_path / "other", other, config("statistics"), {})
    shutil.copy(tmp_path / "other" / TENSORS, saved / TENSORS)
    with pytest.raises(InputError, match="are not those it was saved with"):
        load_producer(saved)
