import json

import pytest
import torch
from torch.func import functional_call

from peace.augmentations.erasing import Erasing
from peace.augmentations.noise import Noise
from peace.augmentations.permutation import Permutation
from peace.augmentations.symmetry import Symmetry
from peace.graph.build import from_architecture
from peace.graph.stack import Stack
from peace.zoo.architectures import build

CNN = {"name": "cnn", "input_shape": [1, 7, 7], "outputs": 3, "activation": "relu", "channels": [4, 5],
       "kernels": [2, 2], "pools": [2, 1], "hidden": [6]}  # fmt: skip
MODELS = 50


def tensors() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    return {
        name: torch.randn(MODELS, *parameter.shape, generator=draw, dtype=torch.float64)
        for name, parameter in build(CNN).named_parameters()
    }


def stack() -> Stack:
    return Stack.of(from_architecture(json.dumps(CNN)), tensors())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def erased(given: Stack, axis: int) -> torch.Tensor:
    """Which neurons of an axis have only zeros before them. Shape: [B, n]."""
    return (given.weights[axis - 1] == 0).flatten(2).all(2)


def test_an_erased_neuron_is_gone_and_the_others_are_untouched() -> None:
    given = stack()
    found = Erasing(share=0.3).transform(given, generator())
    gone = {0: torch.zeros(MODELS, 1, dtype=bool), 4: torch.zeros(MODELS, 3, dtype=bool)}
    gone |= {axis: erased(found, axis) for axis in (1, 2, 3)}
    for layer in range(4):
        # A weight is zero if and only if the neuron before or behind it is gone; every other one is as it was.
        zero = (gone[layer + 1][:, :, None] | gone[layer][:, None, :])[..., None].expand_as(given.weights[layer])
        assert torch.equal(found.weights[layer], given.weights[layer].masked_fill(zero, 0))
        assert torch.equal(found.biases[layer], given.biases[layer].masked_fill(gone[layer + 1], 0))


def test_the_expected_share_is_erased_by_neuron_and_by_model() -> None:
    found = Erasing(share=0.3).transform(stack(), generator())
    gone = torch.cat([erased(found, axis) for axis in (1, 2, 3)], dim=1)
    # 750 neurons, standard deviation of the share 0.017; axes that would be empty keep all, which is rare.
    assert gone.double().mean().item() == pytest.approx(0.3, abs=0.06)
    assert len(gone.unique(dim=0)) > 0.9 * MODELS
    assert (gone.double().mean(0) > 0.1).all()


@pytest.mark.parametrize("share", [0.9, 1.0])
def test_an_axis_is_never_erased_as_a_whole(share: float) -> None:
    found = Erasing(share=share).transform(stack(), generator())
    for axis in (1, 2, 3):
        assert not erased(found, axis).all(1).any()
    if share == 1:
        assert all(torch.equal(a, b) for a, b in zip(found.weights, stack().weights, strict=True))


def test_nothing_is_erased_at_share_zero() -> None:
    found = Erasing(share=0.0).transform(stack(), generator())
    assert all(torch.equal(a, b) for a, b in zip(found.weights, stack().weights, strict=True))


def test_noise_has_the_standard_deviation_relative_to_each_tensor() -> None:
    scale = torch.logspace(-3, 3, MODELS, dtype=torch.float64)
    given = stack().map(lambda tensor: tensor * scale.view(-1, *[1] * (tensor.ndim - 1)))
    found = Noise(std=0.2).transform(given, generator())
    for a, b in zip((*given.weights, *given.biases), (*found.weights, *found.biases), strict=True):
        rms = a.flatten(1).square().mean(1).sqrt()
        relative = (b - a).flatten(1) / rms[:, None]
        assert relative.std().item() == pytest.approx(0.2, rel=0.2)
        assert relative.mean().item() == pytest.approx(0, abs=0.06)
    weights = [(b - a).flatten(1) for a, b in zip(given.weights, found.weights, strict=True)]
    together = torch.cat([part / scale[:, None] for part in weights], dim=1)
    assert together.std().item() == pytest.approx(0.2, rel=0.03)


def test_noise_leaves_zero_tensors_zero() -> None:
    found = Noise(std=0.5).transform(stack().map(torch.zeros_like), generator())
    assert all((tensor == 0).all() for tensor in (*found.weights, *found.biases))
    still = Noise(std=0.0).transform(stack(), generator())
    assert all(torch.equal(a, b) for a, b in zip(still.weights, stack().weights, strict=True))


@pytest.mark.parametrize("augmentation", [Symmetry(log_scale=0.7), Permutation(), Permutation(precomputed=2)])
def test_a_symmetric_copy_computes_the_same(augmentation: Symmetry | Permutation) -> None:
    given = stack().select(slice(0, 3))
    found = augmentation.transform(given, generator())
    module, x = build(CNN).double(), torch.randn(4, 1, 7, 7, dtype=torch.float64, generator=generator(1))
    like = {name: tensor[:3] for name, tensor in tensors().items()}
    for model in range(3):
        before, after = (
            functional_call(module, {name: part[model] for name, part in view.tensors(like).items()}, (x,))
            for view in (given, found)
        )
        assert (before - after).abs().max() < 1e-12 * before.abs().max()
        assert not torch.allclose(given.weights[0][model], found.weights[0][model])


def test_symmetric_copies_are_scaled_by_as_much_as_asked() -> None:
    for log_scale in (0.1, 0.7):
        found = Symmetry(log_scale=log_scale).transform(stack(), generator())
        norms = [given.weights[0].flatten(2).norm(dim=2).sort(1).values.log() for given in (stack(), found)]
        change = (norms[1] - norms[0]).mean(1)
        # The mean logarithm over four channels, whatever their order.
        assert change.std().item() == pytest.approx(log_scale / 2, rel=0.4)
