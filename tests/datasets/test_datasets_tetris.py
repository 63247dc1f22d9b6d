import pytest
import torch

from peace.datasets.images import ImageData
from peace.datasets.tetris import tetris
from peace.errors import InputError

# The two places of each shape, row by row.
PLACES = {
    "I": {"....####........", "........####...."},
    "O": {"....##..##......", ".....##..##....."},
    "T": {"....###..#......", ".....###..#....."},
    "L": {"....#...#...##..", ".....#...#...##."},
}


def pictures(x: torch.Tensor) -> list[str]:
    return ["".join("#" if cell else "." for cell in image.flatten() > x.min()) for image in x]


def test_without_noise_each_class_shows_its_shape_in_two_places() -> None:
    data = tetris(train_images=200, test_images=200, noise=0.0, shifted=0.5)
    assert data.classes == ("I", "O", "T", "L")
    for x, y in ((data.x_train, data.y_train), (data.x_test, data.y_test)):
        assert y.tolist() == [0, 1, 2, 3] * 50
        shown = list(zip(pictures(x), y.tolist(), strict=True))
        for label, name in enumerate(data.classes):
            assert {picture for picture, of in shown if of == label} == PLACES[name]


@pytest.mark.parametrize("shifted", [0.0, 0.1, 1.0])
def test_the_second_place_is_as_rare_in_training_as_told_and_even_in_the_test(shifted: float) -> None:
    data = tetris(train_images=4000, test_images=4000, noise=0.0, shifted=shifted)
    second = {"I": "........####....", "O": ".....##..##.....", "T": ".....###..#.....", "L": ".....#...#...##."}
    for x, y, share in ((data.x_train, data.y_train, shifted), (data.x_test, data.y_test, 0.5)):
        there = [shown == second[data.classes[label]] for shown, label in zip(pictures(x), y.tolist(), strict=True)]
        assert abs(sum(there) / len(there) - share) <= 0.03 * (0 < share < 1)


def test_without_noise_a_shape_has_one_grey_level_of_at_least_half_white() -> None:
    data = tetris(train_images=400, test_images=1, noise=0.0)
    scale = data.x_train - data.x_train.min()
    levels = scale.flatten(1).max(dim=1).values
    four = scale.flatten(1).topk(4, dim=1).values
    assert torch.equal(four, levels[:, None].expand(-1, 4))
    ratio = levels / levels.max()
    assert 0.5 <= ratio.min() < 0.52 and abs(float(ratio.mean()) - 0.75) < 0.02


def test_a_larger_set_begins_with_the_images_of_the_smaller_one() -> None:
    small, large = tetris(train_images=8, noise=0.0), tetris(train_images=64, noise=0.0)
    assert pictures(small.x_train) == pictures(large.x_train)[:8]
    assert pictures(small.x_test) == pictures(large.x_test)


def test_images_are_a_function_of_the_seed_and_the_parts_differ() -> None:
    first, same, other = tetris(), tetris(), tetris(seed=1)
    assert torch.equal(first.x_train, same.x_train) and torch.equal(first.x_test, same.x_test)
    assert not torch.equal(first.x_train, other.x_train) and not torch.equal(first.x_train, first.x_test)
    assert first.x_train.shape == (3000, 1, 4, 4) and first.x_test.shape == (1000, 1, 4, 4)
    assert abs(float(first.x_train.mean())) < 1e-6 and abs(float(first.x_train.std(correction=0)) - 1) < 1e-6


def test_more_noise_brings_the_classes_closer() -> None:
    def distance(data: ImageData) -> float:
        means = torch.stack([data.x_train[data.y_train == label].mean(dim=0) for label in range(4)])
        return float(torch.pdist(means.flatten(1)).min())

    assert distance(tetris(noise=0.0)) > distance(tetris(noise=0.2)) > distance(tetris(noise=0.6))


def test_a_network_of_a_hundred_weights_learns_it_but_neither_at_once_nor_wholly() -> None:
    data = tetris()
    generator = torch.Generator().manual_seed(0)
    first = ((2 * torch.rand(16, 5, generator=generator) - 1) / 4).requires_grad_()
    second = ((2 * torch.rand(5, 4, generator=generator) - 1) / 5**0.5).requires_grad_()
    untrained = _accuracy(data.x_test, data.y_test, first, second)
    for _ in range(2):
        for batch in torch.randperm(3000, generator=generator).split(32):
            logits = torch.tanh(data.x_train[batch].flatten(1) @ first) @ second
            loss = torch.nn.functional.cross_entropy(logits, data.y_train[batch])
            gradients = torch.autograd.grad(loss, (first, second))
            with torch.no_grad():
                first -= 0.1 * gradients[0]
                second -= 0.1 * gradients[1]
    train, test = (
        _accuracy(*part, first, second) for part in ((data.x_train, data.y_train), (data.x_test, data.y_test))
    )
    assert untrained < 0.5 < 0.7 < test < train < 0.99
    assert 0.05 < train - test < 0.3


def _accuracy(x: torch.Tensor, y: torch.Tensor, first: torch.Tensor, second: torch.Tensor) -> float:
    with torch.no_grad():
        return float(((torch.tanh(x.flatten(1) @ first) @ second).argmax(dim=1) == y).float().mean())


@pytest.mark.parametrize(
    "bad", [{"train_images": 0}, {"test_images": -1}, {"noise": -0.1}, {"noise": float("nan")}, {"shifted": 1.1}]
)
def test_numbers_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=f"cannot generate the data set 'tetris': .*{next(iter(bad))}="):
        tetris(**bad)
