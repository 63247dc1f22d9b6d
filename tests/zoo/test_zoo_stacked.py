"""The stacked forward pass gives what each model's own module gives."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from peace.errors import InputError
from peace.zoo import architectures
from peace.zoo.stacked import forward

MODELS, BATCH = 4, 6
CNN = {"name": "cnn", "channels": [3, 2], "kernels": [3, 2], "hidden": [5]}
MODULES: dict[str, Callable[[], nn.Sequential]] = {
    "mlp": lambda: built({"name": "mlp", "hidden": [9, 5]}),
    "mlp without biases": lambda: built({"name": "mlp", "hidden": [5], "bias": False}),
    "mlp without hidden layers": lambda: built({"name": "mlp", "hidden": []}),
    "cnn": lambda: built(CNN | {"pools": [2, 1]}),
    "cnn without biases or pools": lambda: built(CNN | {"pools": [1, 1], "bias": False}),
    "strides and an average": lambda: built(CNN | {"pools": [1, 1], "strides": [2, 1], "pooling": "average"}),
    "strides, padding, dilation": lambda: nn.Sequential(
        nn.Conv2d(2, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 2, dilation=2, padding="same"),
        nn.Flatten(), nn.Linear(32, 3),
    ),
    "average pooling": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.AvgPool2d(2), nn.GELU(), nn.Flatten(), nn.Linear(16, 3)
    ),
    "grouped convolution": lambda: nn.Sequential(
        nn.Conv2d(2, 4, 3, groups=2), nn.Tanh(), nn.Flatten(), nn.Linear(100, 3)
    ),
    "pooling first": lambda: nn.Sequential(nn.MaxPool2d(2), nn.Conv2d(2, 4, 2), nn.Flatten(), nn.Linear(16, 3)),
    "pooling, then linear": lambda: nn.Sequential(nn.AvgPool2d(2), nn.ReLU(), nn.Flatten(), nn.Linear(18, 3)),
}  # fmt: skip


def built(config: dict[str, object], activation: str = "tanh", dropout: bool = False) -> nn.Sequential:
    given = {"activation": activation, "input_shape": [2, 7, 7], "outputs": 3, "dropout": dropout}
    return architectures.build(config | given)


def cases(module: nn.Sequential, models: int = MODELS) -> tuple[dict[str, Tensor], Tensor]:
    """Random stacked parameters and images in float64."""
    generator = torch.Generator().manual_seed(0)
    stacked = {
        name: torch.randn(models, *value.shape, generator=generator, dtype=torch.float64)
        for name, value in module.named_parameters()
    }
    return stacked, torch.randn(models, BATCH, 2, 7, 7, generator=generator, dtype=torch.float64)


def each(module: nn.Sequential, stacked: dict[str, Tensor], images: Tensor) -> Tensor:
    """One model after the other through the module itself."""
    parameters = [{name: value[model] for name, value in stacked.items()} for model in range(len(images))]
    outputs = [functional_call(module.eval(), own, x) for own, x in zip(parameters, images, strict=True)]
    return torch.stack(outputs).flatten(2)


@pytest.mark.parametrize("models", [MODELS, 1])
@pytest.mark.parametrize("name", MODULES)
def test_forward_is_each_module_s_own(name: str, models: int) -> None:
    module = MODULES[name]().double()
    stacked, images = cases(module, models)
    assert (forward(module, stacked, images) - each(module, stacked, images)).abs().max() < 1e-12


@pytest.mark.parametrize("name", MODULES)
def test_shared_images_are_images_repeated(name: str) -> None:
    module = MODULES[name]().double()
    stacked, images = cases(module)
    expected = each(module, stacked, images[:1].expand(MODELS, *images.shape[1:]))
    assert (forward(module, stacked, images[:1]) - expected).abs().max() < 1e-12


@pytest.mark.parametrize("activation", architectures.ACTIVATIONS)
def test_every_activation_has_a_stacked_form(activation: str) -> None:
    module = built(CNN | {"pools": [2, 1]}, activation).double()
    stacked, images = cases(module)
    assert (forward(module, stacked, images) - each(module, stacked, images)).abs().max() < 1e-12


@pytest.mark.parametrize("name", MODULES)
def test_gradients_are_each_module_s_own(name: str) -> None:
    module = MODULES[name]().double()
    stacked, images = cases(module)
    for value in stacked.values():
        value.requires_grad_()
    ours = torch.autograd.grad(forward(module, stacked, images).sin().sum(), list(stacked.values()))
    theirs = torch.autograd.grad(each(module, stacked, images).sin().sum(), list(stacked.values()))
    for left, right in zip(ours, theirs, strict=True):
        assert (left - right).abs().max() < 1e-10


DROPPING = {
    "features": nn.Sequential(nn.Flatten(), nn.Linear(98, 5), nn.Dropout(), nn.ReLU(), nn.Dropout(), nn.Linear(5, 3)),
    "channels": nn.Sequential(nn.Conv2d(2, 3, 3), nn.Dropout(), nn.Flatten(), nn.Linear(75, 3)),
    "images": nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(98, 3)),
}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("name", DROPPING)
def test_dropout_multiplies_by_the_mask_of_its_place(name: str, shared: bool) -> None:
    module = DROPPING[name].double()
    stacked, images = cases(module)
    images = images[:1] if shared else images
    masks: dict[int, Tensor] = {}

    def mask(place: int, shape: tuple[int, ...]) -> Tensor:
        generator = torch.Generator().manual_seed(place)
        masks[place] = (torch.rand(MODELS, *shape, generator=generator) > 0.5).double() * (2 + place)
        return masks[place]

    found = forward(module, stacked, images, mask)
    for model in range(MODELS):
        x = images[0 if shared else model]
        for place, layer in enumerate(module):
            own = {key.split(".")[1]: value[model] for key, value in stacked.items() if key.startswith(f"{place}.")}
            x = x * masks[place][model] if place in masks else functional_call(layer, own, x)
        assert (found[model] - x).abs().max() < 1e-12
    assert set(masks) == {place for place, layer in enumerate(module) if isinstance(layer, nn.Dropout)}
    without = forward(module, stacked, images)
    assert (found - without).abs().max() > 0.1
    assert (without - each(module, stacked, images.expand(MODELS, *images.shape[1:]))).abs().max() < 1e-12


@pytest.mark.parametrize(
    "layers",
    [
        [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)],
        [nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect")],
        [nn.Linear(7, 3)],
        [nn.Flatten(), nn.Linear(98, 4), nn.MaxPool2d(2)],
    ],
    ids=["batch norm", "reflecting padding", "linear before flatten", "pooling after flatten"],
)
def test_a_layer_without_a_stacked_form_is_refused(layers: list[nn.Module]) -> None:
    module = nn.Sequential(*layers).double()
    sentence = f"no stacked form of layer {len(layers) - 1}: got {type(layers[-1]).__name__}"
    with pytest.raises(InputError, match=sentence):
        forward(module, *cases(module))


@pytest.mark.parametrize(("size", "shape"), [(2, (5, 7)), (3, (7, 9)), (2, (4, 4))])
def test_pooling_without_a_gradient_is_torch_s_pooling(size: int, shape: tuple[int, int]) -> None:
    images = torch.randn(1, 2, 3, *shape)
    images[0, 0, 0, 0, 0] = torch.nan
    layer = nn.MaxPool2d(size)
    module = nn.Sequential(layer, nn.Flatten(), nn.Linear(3 * (shape[0] // size) * (shape[1] // size), 2))
    parameters = {name: value[None].repeat(2, *[1] * value.ndim) for name, value in module.named_parameters()}
    expected = module(images[0]).detach()
    with torch.no_grad():
        found = forward(module, parameters, images)
    for row in found:
        torch.testing.assert_close(row, expected, equal_nan=True)
    overlapping = nn.Sequential(nn.MaxPool2d(2, stride=1), nn.Flatten())
    unused = {"9.weight": torch.zeros(1, 1)}
    assert torch.equal(forward(overlapping, unused, images[:, 1:])[0], overlapping(images[0, 1:]))
