import json

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from peace.errors import InputError
from peace.graph.build import from_architecture, from_module
from peace.graph.stack import Stack
from peace.graph.symmetry import sample
from peace.models.baselines import BASELINES, Baseline, Flat, PathProduct, Random, Statistics
from peace.zoo.architectures import build

MLP = {"name": "mlp", "input_shape": [1, 3, 3], "outputs": 4, "activation": "tanh", "hidden": [6]}
DEEP = {"name": "mlp", "input_shape": [1, 3, 3], "outputs": 4, "activation": "relu", "hidden": [6, 5], "bias": False}
CNN = {"name": "cnn", "input_shape": [2, 7, 7], "outputs": 3, "activation": "relu", "channels": [4, 5],
       "kernels": [2, 2], "pools": [2, 1], "hidden": [6]}  # fmt: skip


EVERY = [
    pytest.param(name, marks=pytest.mark.slow if name == "umap" else ())
    for name in BASELINES.names()
    if name != "weight_watcher"
]
"""UMAP takes half a minute to compile; weight_watcher reads no layers as small as those here."""


def stack(node: dict[str, object], models: int = 5, seed: int = 0, dtype: torch.dtype = torch.float64) -> Stack:
    draw = torch.Generator().manual_seed(seed)
    tensors = {
        name: torch.randn(models, *parameter.shape, generator=draw, dtype=torch.float64).to(dtype)
        for name, parameter in build(node).named_parameters()
    }
    return Stack.of(from_architecture(json.dumps(node)), tensors)


def fitted(name: str, *stacks: Stack) -> Baseline:
    baseline = BASELINES.build({"name": name})
    baseline.fit(stacks)
    return baseline


def changed(given: Stack, layer: int, bias: bool) -> Stack:
    """The stack with one number of the last model changed by one rounding step."""
    copy = given.map(Tensor.clone)
    tensor = copy.biases[layer] if bias else copy.weights[layer]
    flat = tensor[-1].view(-1)
    flat[-1] = torch.nextafter(flat[-1], torch.tensor(torch.inf, dtype=flat.dtype))
    return copy


@pytest.mark.parametrize("name", EVERY)
def test_every_baseline_embeds_a_mixed_batch_in_order(name: str) -> None:
    batch = [stack(CNN, dtype=torch.float32), stack(MLP, 3, dtype=torch.float32)]
    baseline = fitted(name, *batch)
    vectors = baseline.embed(batch)
    dimension = {"pca": 8, "umap": 50}.get(name, int(baseline.width))  # at most as many components as models
    assert vectors.shape == (8, dimension) and vectors.isfinite().all() and vectors.dtype == torch.float32
    assert len(vectors.unique(dim=0)) == 8
    assert torch.equal(baseline.embed(batch), vectors)
    if name != "umap":  # whose places depend a little on the batch
        alone = torch.cat([baseline.embed([part.select([model])]) for part in batch for model in range(len(part))])
        torch.testing.assert_close(alone, vectors)
    assert torch.equal(batch[0].weights[0], stack(CNN, dtype=torch.float32).weights[0])


@pytest.mark.parametrize("name", ["flat", "statistics", "path_product", "pca", "umap"])
def test_a_model_larger_than_any_fitted_is_refused(name: str) -> None:
    baseline = fitted(name, stack(MLP))
    large = stack(CNN | {"channels": [9, 9]})
    with pytest.raises(InputError, match=rf"larger than any of the zoo: got \d+ features, expected at most "
                                         rf"{int(baseline.width)}; fit the baseline"):  # fmt: skip
        baseline.embed([large])
    with pytest.raises(InputError, match="expected at most 0"):
        BASELINES.build({"name": name}).embed([stack(MLP)])


def test_further_architectures_count_for_the_width_alone() -> None:
    train, wide = stack(MLP), stack(CNN)
    for name in ("flat", "statistics", "pca"):
        baseline = BASELINES.build({"name": name})
        baseline.fit([train], [train.select([0]), wide])
        assert int(baseline.width) == baseline.features(wide).shape[1] > baseline.features(train).shape[1]
        assert baseline.embed([train, wide]).isfinite().all()
    standard = BASELINES.build({"name": "statistics"})
    standard.fit([train], [wide])
    torch.testing.assert_close(standard.embed([train]).mean(0), torch.zeros(56, dtype=torch.float64))


def test_flat_is_every_number_in_order_and_zeros() -> None:
    batch = [stack(MLP, 2), stack(CNN, 2)]
    vectors = fitted("flat", *batch).embed(batch)
    (w, v), (b, c) = batch[0].weights, batch[0].biases
    one = torch.cat([w[1].flatten(), b[1], v[1].flatten(), c[1]])
    assert torch.equal(vectors[1, : len(one)], one) and (vectors[1, len(one) :] == 0).all()
    assert vectors.shape[1] == sum(tensor[0].numel() for tensor in (*batch[1].weights, *batch[1].biases))
    assert torch.equal(vectors[3, -3:], batch[1].biases[3][1])
    bare = stack(DEEP, 1)
    assert torch.equal(Flat().features(bare)[0], torch.cat([weight.flatten() for weight in bare.weights]))


def test_statistics_are_those_of_numpy() -> None:
    given = stack(CNN)
    found = Statistics().features(given).numpy()
    for model in range(5):
        columns = []
        for weight, bias in zip(given.weights, given.biases, strict=True):
            for tensor in (weight[model].numpy(), bias[model].numpy()):
                columns += [tensor.mean(), tensor.var(), *np.quantile(tensor, [0, 0.25, 0.5, 0.75, 1])]
        np.testing.assert_allclose(found[model], columns, rtol=1e-12)
    assert found.shape == (5, 14 * 4)


def test_statistics_without_bias_are_zeros() -> None:
    found = Statistics().features(stack(DEEP)).view(5, 3, 2, 7)
    assert (found[:, :, 1] == 0).all() and (found[:, :, 0].abs() > 0).all()


def test_statistics_are_standardised_as_by_scikit_learn() -> None:
    batch = [stack(CNN), stack(MLP, 4), stack(DEEP, 3)]
    raw = [Statistics().features(part).numpy() for part in batch]
    padded = np.concatenate([np.pad(part, ((0, 0), (0, raw[0].shape[1] - part.shape[1]))) for part in raw])
    scaler = StandardScaler().fit(padded)
    baseline = fitted("statistics", *batch)
    np.testing.assert_allclose(baseline.embed(batch).numpy(), scaler.transform(padded), rtol=1e-9, atol=1e-9)
    later = stack(MLP, 2, seed=7)
    unseen = np.pad(Statistics().features(later).numpy(), ((0, 0), (0, 28)))
    np.testing.assert_allclose(baseline.embed([later]).numpy(), scaler.transform(unseen), rtol=1e-9, atol=1e-9)


def test_a_path_product_by_hand() -> None:
    graph = from_architecture(json.dumps(MLP | {"input_shape": [1, 1, 2], "hidden": [2], "outputs": 2, "bias": False}))
    w, v = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1.0, 1.0], [2.0, 0.0]])
    # v w = [[4, 6], [2, 4]]; the mean over classes is [3, 5].
    found = PathProduct().features(Stack.of(graph, {"1.weight": w[None], "3.weight": v[None]}))
    assert found.tolist() == [[1.0, 1.0, -1.0, -1.0]]


def test_a_path_product_of_linear_layers_is_that_of_their_matrices() -> None:
    given = stack(DEEP)
    w, v, u = (weight[..., 0] for weight in given.weights)
    product = u @ v @ w
    expected = (product - product.mean(1, keepdim=True)).flatten(1)
    torch.testing.assert_close(PathProduct().features(given), expected, rtol=1e-12, atol=1e-12)


def test_a_path_product_of_convolutions_keeps_every_tap() -> None:
    given = stack(CNN)
    product = torch.einsum("mopd,mpqc,mqrb,mria->modcbia", *reversed(given.weights))
    expected = (product - product.mean(1, keepdim=True)).flatten(1)
    torch.testing.assert_close(PathProduct().features(given), expected, rtol=1e-12, atol=1e-12)


def test_the_path_product_of_a_network_without_activations_is_its_jacobian() -> None:
    module = build(DEEP | {"activation": "identity"}).double()
    tensors = {name: parameter[None].detach() for name, parameter in module.named_parameters()}
    jacobian = torch.autograd.functional.jacobian(module, torch.zeros(1, 1, 3, 3, dtype=torch.float64)).view(4, 9)
    found = PathProduct().features(Stack.of(from_module(module, (1, 3, 3)), tensors)).view(4, 9)
    torch.testing.assert_close(found, jacobian - jacobian.mean(0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("activation", ["relu", "tanh", "gelu"])
@pytest.mark.parametrize("node", [MLP, DEEP, CNN])
def test_path_products_do_not_change_under_the_whole_group(node: dict[str, object], activation: str) -> None:
    given = stack(node | {"activation": activation})
    for seed in range(3):
        moved = sample(given.graph, 5, torch.Generator().manual_seed(seed)).apply(given)
        before, after = (PathProduct().features(part) for part in (given, moved))
        assert (before - after).abs().max() < 1e-10 * before.abs().max()
        assert not torch.allclose(Flat().features(given), Flat().features(moved))


def test_random_vectors_are_a_function_of_every_bit() -> None:
    given = stack(MLP, dtype=torch.float32)
    baseline = fitted("random", given)
    vectors = baseline.embed([given])
    assert torch.equal(vectors, fitted("random", given.select([0])).embed([given]))
    assert torch.equal(baseline.embed([given.select([3])])[0], vectors[3])
    for layer, bias in ((0, False), (0, True), (1, False), (1, True)):
        other = baseline.embed([changed(given, layer, bias)])
        assert torch.equal(other[:-1], vectors[:-1])
        assert torch.nn.functional.cosine_similarity(other[-1], vectors[-1], dim=0).abs() < 0.4


def test_random_vectors_are_standard_normal_and_unrelated() -> None:
    vectors = Random(embedding_dim=64).features(stack(MLP, 400, dtype=torch.float32))
    assert vectors.shape == (400, 64)
    assert vectors.mean().item() == pytest.approx(0, abs=0.03) and vectors.std().item() == pytest.approx(1, abs=0.03)
    cosines = torch.corrcoef(vectors).fill_diagonal_(0)
    # 80,000 correlations of 64 numbers: standard deviation 0.126.
    assert cosines.std().item() == pytest.approx(1 / 8, rel=0.05) and cosines.abs().max() < 0.7
