import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from peace.datasets.images import load, names
from peace.datasets.readers import read_idx, read_npz
from peace.errors import InputError

ARRAYS = {
    "x_train": np.arange(12, dtype=np.uint8).reshape(3, 2, 2),
    "y_train": np.array([0, 1, 1], np.uint8),
    "x_test": np.full((1, 2, 2), 7, np.uint8),
    "y_test": np.array([0], np.uint8),
    "classes": np.array(["cat", "dog"]),
}
IMAGES_HEADER = bytes.fromhex("00000803 00000003 00000002 00000002")
LABELS_HEADER = bytes.fromhex("00000801 00000003")


def archive(path: Path, **changes: object) -> Path:
    arrays = {name: array for name, array in {**ARRAYS, **changes}.items() if array is not None}
    np.savez(path, **arrays)
    return path


def idx(folder: Path, test: str = "t10k", **changes: bytes | None) -> Path:
    files = {
        "train-images-idx3-ubyte": IMAGES_HEADER + bytes(range(12)),
        "train-labels-idx1-ubyte": LABELS_HEADER + bytes([0, 3, 1]),
        f"{test}-images-idx3-ubyte": bytes.fromhex("00000803 00000001 00000002 00000002 07070707"),
        f"{test}-labels-idx1-ubyte": bytes.fromhex("00000801 00000001 02"),
    }
    replaced = {f"{key.replace('_', '-')}-ubyte": content for key, content in changes.items()}
    for name, content in {**files, **replaced}.items():
        if content is not None:
            (folder / name).write_bytes(content)
    return folder


class Bomb:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.marker,)


def test_npz_arrays_come_back_as_they_are(tmp_path: Path) -> None:
    pixels = read_npz(archive(tmp_path / "a.npz"))
    assert pixels.classes == ("cat", "dog")
    for name in ("x_train", "y_train", "x_test", "y_test"):
        np.testing.assert_array_equal(getattr(pixels, name), ARRAYS[name])


def test_pickled_objects_are_refused_and_never_run(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    bombs = np.array([Bomb(marker)], dtype=object)
    path = archive(tmp_path / "a.npz", classes=bombs)
    with pytest.raises(InputError, match=f"cannot read the images in {path}: .*allow_pickle=False, expected"):
        read_npz(path)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_test": None}, "missing array 'y_test' in .*: got x_train, y_train, x_test, classes, expected x_train, "),
        ({"x_train": ARRAYS["x_train"] / 255}, "wrong array 'x_train' .*got float64 .*expected uint8"),
        ({"x_test": np.zeros(4, np.uint8)}, "wrong array 'x_test' .*got uint8 with 1 dim.*expected uint8 with 3 or 4"),
        ({"y_train": np.array([0.0, 1.0, 1.0])}, "wrong array 'y_train' .*expected integers"),
        ({"y_train": np.zeros((3, 1), int)}, "wrong array 'y_train' .*got int64 with 2"),
        ({"classes": np.arange(2)}, "wrong array 'classes' .*expected words"),
    ],
)
def test_archives_of_other_arrays_are_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_npz(archive(tmp_path / "a.npz", **changes))


def test_damaged_archives_are_refused_in_one_sentence(tmp_path: Path) -> None:
    whole = archive(tmp_path / "whole.npz").read_bytes()
    single = io.BytesIO()
    np.save(single, np.zeros(3))
    flipped = bytearray(whole)
    flipped[whole.index(ARRAYS["x_train"].tobytes())] ^= 1
    for content in (b"", b"not an archive", whole[:200], whole[:-30], single.getvalue(), bytes(flipped)):
        path = tmp_path / "damaged.npz"
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot read the images in") as caught:
            read_npz(path)
        assert "\n" not in str(caught.value)


def test_an_archive_member_that_is_no_array_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", classes=None)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("classes", b"cat dog")
    with pytest.raises(InputError, match="wrong array 'classes'"):
        read_npz(path)


@pytest.mark.parametrize("test", ["t10k", "test"])
def test_idx_files_are_read_plain_and_compressed(tmp_path: Path, test: str) -> None:
    folder = idx(tmp_path, test)
    plain = folder / "train-images-idx3-ubyte"
    (folder / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(plain.read_bytes()))
    plain.unlink()
    pixels = read_idx(folder)
    np.testing.assert_array_equal(pixels.x_train, np.arange(12).reshape(3, 2, 2))
    assert pixels.y_train.tolist() == [0, 3, 1] and pixels.y_test.tolist() == [2]
    assert pixels.x_test.tolist() == [[[7, 7], [7, 7]]]
    assert pixels.classes == ("class-0", "class-1", "class-2", "class-3")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"t10k_labels_idx1": None}, "missing file .*expected t10k-labels-idx1-ubyte or test-labels-idx1-ubyte"),
        ({"train_images_idx3": IMAGES_HEADER + bytes(11)}, "truncated file .*got 27 bytes, expected 28 "),
        ({"train_images_idx3": IMAGES_HEADER[:9]}, "truncated file .*got 9 bytes"),
        ({"train_images_idx3": IMAGES_HEADER + bytes(13)}, "too long a file .*got 29 bytes, expected 28"),
        ({"train_images_idx3": LABELS_HEADER + bytes(3)}, "wrong magic number .*got 0x00000801, expected 0x00000803"),
        ({"train_labels_idx1": b""}, "wrong magic number .*got 0x00000000, expected 0x00000801"),
        ({"train_labels_idx1": b"\x1f\x8b" + bytes(30)}, "wrong magic number"),
    ],
)
def test_bad_idx_files_are_refused(tmp_path: Path, changes: dict[str, bytes | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_idx(idx(tmp_path, **changes))


@pytest.mark.parametrize("cut", [0.5, 0.0])
def test_a_truncated_or_foreign_gzip_file_is_refused(tmp_path: Path, cut: float) -> None:
    folder = idx(tmp_path, train_images_idx3=None)
    whole = gzip.compress(IMAGES_HEADER + bytes(range(12)))
    content = whole[: int(cut * len(whole))] if cut else b"plain words"
    (folder / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(InputError, match=r"cannot read the file in .*train-images-idx3-ubyte\.gz"):
        read_idx(folder)


def test_an_idx_folder_is_loaded_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, test_label in (("tiny", 2), ("range", 4)):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        idx(folder, t10k_labels_idx1=bytes.fromhex("00000801 00000001") + bytes([test_label]))
    monkeypatch.setenv("PEACE_DATA", str(tmp_path))
    assert {"tiny", "range"} <= set(names())
    assert load("tiny").x_train.shape == (3, 1, 2, 2) and load("tiny").y_test.tolist() == [2]
    with pytest.raises(InputError, match=r"labels out of range .*test part: got 4..4, expected 0..3"):
        load("range")
