import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from peace.datasets import DATASETS
from peace.datasets.images import ImageData, load, names, standardised
from peace.datasets.readers import Pixels
from peace.errors import InputError

# Mean 1, population variance (1 + 9 + 1 + 1 + 1 + 1 + 1 + 1) / 8 = 2 over both training images.
TRAIN = np.array([[[0, 4], [0, 0]], [[0, 2], [2, 0]]], dtype=np.uint8)
TEST = np.array([[[1, 1], [1, 255]]], dtype=np.uint8)
PIXELS = Pixels(TRAIN, np.array([0, 2]), TEST, np.array([1]), ("a", "b", "c"))


def write(folder: Path, name: str, **changes: np.ndarray) -> None:
    (folder / "images").mkdir(exist_ok=True)
    arrays = {**PIXELS._asdict(), "classes": np.array(PIXELS.classes), **changes}
    np.savez(folder / "images" / f"{name}.npz", **arrays)


def test_pixels_are_standardised_by_the_two_scalars_of_the_training_set() -> None:
    data = standardised("hand", PIXELS)
    assert TRAIN.mean() == 1 and TRAIN.var() == 2
    root = 2**0.5
    torch.testing.assert_close(data.x_train[0, 0], torch.tensor([[-1.0, 3.0], [-1.0, -1.0]]) / root)
    torch.testing.assert_close(data.x_test[0, 0], torch.tensor([[0.0, 0.0], [0.0, 254.0]]) / root)
    assert data.x_train.shape == (2, 1, 2, 2) and data.x_train.dtype == torch.float32
    assert data.y_train.tolist() == [0, 2] and data.y_train.dtype == torch.int64
    assert data.classes == ("a", "b", "c")


def test_scaling_to_the_unit_interval_first_changes_nothing() -> None:
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
    unit = images / 255.0
    data = standardised("unit", PIXELS._replace(x_train=images, y_train=np.zeros(5, int), x_test=images[:1]))
    np.testing.assert_allclose(data.x_train[:, 0].numpy(), (unit - unit.mean()) / unit.std(), rtol=1e-5, atol=1e-6)


def test_channels_come_first_and_share_one_scale() -> None:
    colour = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
    data = standardised("colour", PIXELS._replace(x_train=colour, x_test=colour[:1]))
    assert data.x_train.shape == (2, 3, 2, 2)
    expected = (colour - colour.mean()) / colour.std()
    np.testing.assert_allclose(data.x_train.permute(0, 2, 3, 1).numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.zeros((2, 2, 2), np.uint8)}, "empty or all of one grey"),
        ({"x_train": np.zeros((0, 2, 2), np.uint8)}, "empty or all of one grey"),
        ({"x_test": np.zeros((0, 2, 2), np.uint8)}, "wrong images in data set 'bad', test part"),
        ({"x_train": TRAIN.astype(float)}, "got float64 .*expected uint8"),
        ({"x_train": TRAIN.reshape(1, 2, 2, 2)}, r"got uint8 \[1, 2, 2, 2\]"),
        ({"x_test": np.ones((1, 2, 3), np.uint8)}, "test images of another shape"),
        ({"y_train": np.array([0, 3])}, r"labels out of range .* got 0..3, expected 0..2"),
        ({"y_test": np.array([-1])}, "labels out of range .*test part"),
        ({"y_train": np.array([0, 1, 2])}, r"wrong labels .* got int64 \[3\], expected int64 \[2\]"),
        ({"classes": ()}, "labels out of range"),
    ],
)
def test_arrays_that_make_no_data_set_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        standardised("bad", PIXELS._replace(**changes))


def test_image_data_refuses_other_types() -> None:
    x, y = torch.zeros(2, 1, 2, 2), torch.zeros(2, dtype=torch.int64)
    assert ImageData("fine", x, y, x, y, ("a",)).classes == ("a",)
    with pytest.raises(InputError, match="float64"):
        ImageData("double", x.double(), y, x, y, ("a",))
    with pytest.raises(InputError, match="int32"):
        ImageData("short", x, y.int(), x, y, ("a",))


def test_an_archive_under_the_data_folder_is_loaded_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "hand")
    monkeypatch.setenv("PEACE_DATA", str(tmp_path))
    assert torch.equal(load("hand").x_train, standardised("hand", PIXELS).x_train)
    assert load("hand") is load("hand")
    assert names() == sorted([*DATASETS.names(), "hand"])


def test_labels_out_of_range_in_an_archive_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "range", y_train=np.array([0, 3], np.uint8))
    monkeypatch.setenv("PEACE_DATA", str(tmp_path))
    with pytest.raises(InputError, match="labels out of range"):
        load("range")


def test_a_registered_name_needs_no_data_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEACE_DATA", raising=False)
    assert names() == DATASETS.names() == ["digits", "tetris"]
    assert load("tetris").name == "tetris"


def test_without_a_data_folder_the_message_names_the_file_and_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PEACE_DATA", raising=False)
    with pytest.raises(InputError, match=r"'mnist': expected the file \$PEACE_DATA/images/mnist.npz.*; set PEACE_DATA"):
        load("mnist")
    with pytest.raises(InputError, match="did you mean 'digits'"):
        load("digit")


@pytest.mark.parametrize("name", ["hnad", "../images/hand", "images/hand", "", ".", "hand.npz"])
def test_an_unknown_name_is_refused_with_the_place_and_the_nearest_name(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "hand")
    monkeypatch.setenv("PEACE_DATA", str(tmp_path))
    with pytest.raises(InputError) as caught:
        load(name)
    message = str(caught.value)
    assert f"{tmp_path / 'images'}/{name}.npz" in message and "put it there" in message and "\n" not in message
    assert name != "hnad" or "did you mean 'hand'?" in message


def test_the_room_imports_without_torch() -> None:
    code = (
        "import sys, peace.datasets as room; assert room.DATASETS.kind == 'data set'; sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


@pytest.mark.skipif("PEACE_DATA" not in os.environ, reason="PEACE_DATA is not set: no real image sets here")
@pytest.mark.parametrize(
    ("name", "train", "test", "side", "n_classes"),
    [("mnist", 60000, 10000, 28, 10), ("usps", 7291, 2007, 16, 10), ("emnist_letters26", 16000, 4000, 28, 26)],
)
def test_real_image_sets_have_their_published_sizes(
    name: str, train: int, test: int, side: int, n_classes: int
) -> None:
    if name not in names():
        pytest.skip(f"no {name} under PEACE_DATA")
    data = load(name)
    assert data.x_train.shape == (train, 1, side, side) and data.x_test.shape == (test, 1, side, side)
    assert len(data.classes) == n_classes and set(data.y_test.tolist()) == set(range(n_classes))
    assert abs(float(data.x_train.mean())) < 1e-4 and abs(float(data.x_train.std()) - 1) < 1e-4
