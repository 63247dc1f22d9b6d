"""The form of data sets: sizes by hand, counts of each class, and pixels standardised anew."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from peace.datasets.form import Form, load_as, resized
from peace.datasets.images import load
from peace.errors import InputError


def test_no_form_is_the_data_set_itself() -> None:
    assert load_as("digits", Form()) is load("digits")


def test_halved_images_are_the_means_of_four_pixels() -> None:
    images = torch.arange(32.0).view(2, 1, 4, 4)
    assert resized(images, 2).tolist() == F.avg_pool2d(images, 2).tolist()
    assert resized(images, 4).tolist() == images.tolist()


def test_pixels_covered_in_part_count_in_part() -> None:
    """Three pixels to two: each new one covers one and a half old ones."""
    images = torch.tensor([[0.0, 3.0, 6.0], [0.0, 3.0, 6.0], [9.0, 9.0, 9.0]])[None, None]
    # Along a row: (0 + 3/2) / 1.5 = 1 and (3/2 + 6) / 1.5 = 5; down a column the last is (x/2 + 9) / 1.5.
    expected = torch.tensor([[1.0, 5.0], [(0.5 + 9) / 1.5, (2.5 + 9) / 1.5]])
    torch.testing.assert_close(resized(images, 2)[0, 0], expected)


def test_a_larger_size_repeats_pixels() -> None:
    images = torch.tensor([[1.0, 2.0], [3.0, 4.0]])[None, None]
    assert torch.equal(resized(images, 4), F.interpolate(images, scale_factor=2))


@pytest.mark.parametrize(("channels", "grey"), [(1, 1.0), (3, 2.0), (4, 2.0)])
def test_colours_become_grey_and_alpha_is_left_out(channels: int, grey: float) -> None:
    images = torch.tensor([1.0, 2.0, 3.0, 99.0])[:channels, None, None].expand(1, channels, 4, 4)
    assert torch.equal(resized(images, 2), torch.full((1, 1, 2, 2), grey))


def test_the_mean_grey_is_kept() -> None:
    images = torch.randn(3, 1, 16, 28, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(resized(images, 14).mean((1, 2, 3)), images.mean((1, 2, 3)))


def test_each_class_has_its_images_and_fewer_are_among_more() -> None:
    whole, some = load("digits"), load_as("digits", Form(train_per_class=30, test_per_class=10))
    assert torch.bincount(some.y_train).tolist() == [30] * 10 and torch.bincount(some.y_test).tolist() == [10] * 10
    less = load_as("digits", Form(train_per_class=20))
    assert len(less.y_test) == len(whole.y_test) and len(less.y_train) == 200

    def shown(images: torch.Tensor) -> set[tuple[float, ...]]:
        """Images up to the standardisation, which differs."""
        flat = images.flatten(1).double()
        return {tuple(row) for row in ((flat - flat.min()) / (flat.max() - flat.min())).mul(16).round().int().tolist()}

    assert shown(less.x_train) < shown(some.x_train) < shown(whole.x_train)


def test_images_are_standardised_anew_by_the_training_set() -> None:
    data, whole = load_as("digits", Form(6, 25)), load("digits")
    assert data.x_train.shape == (250, 1, 6, 6) and data.name == "digits" and data.classes == whole.classes
    assert float(data.x_train.double().mean()) == pytest.approx(0, abs=1e-6)
    assert float(data.x_train.double().std(correction=0)) == pytest.approx(1, abs=1e-6)
    small = resized(whole.x_test, 6)
    ratio = (data.x_test - data.x_test.mean()).std() / (small - small.mean()).std()
    torch.testing.assert_close(data.x_test - data.x_test.mean(), (small - small.mean()) * ratio, atol=1e-5, rtol=1e-5)


def test_too_few_images_or_one_grey_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"too few images of a class in data set 'digits', test part, label 0: got 3"):
        load_as("digits", Form(test_per_class=1000))
    (tmp_path / "images").mkdir()
    images = np.zeros((2, 2, 2), np.uint8)
    images[0, 0, 0] = 1
    labels = np.array([0, 1])
    np.savez(tmp_path / "images" / "flat.npz", x_train=images[[0, 1]] * 0 + np.eye(2, dtype=np.uint8), y_train=labels,
             x_test=images, y_test=labels, classes=np.array(["a", "b"]))  # fmt: skip
    monkeypatch.setenv("PEACE_DATA", str(tmp_path))
    with pytest.raises(InputError, match="the training images are all of one grey in data set 'flat'"):
        load_as("flat", Form(image_size=1))
