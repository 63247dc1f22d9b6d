import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from peace.datasets.digits import held_out
from peace.datasets.images import load


def test_a_fifth_of_each_label_is_held_out() -> None:
    labels = np.array([3] * 10 + [1] * 7 + [2] * 13)
    mask = held_out(labels)
    assert [int(mask[labels == label].sum()) for label in (1, 2, 3)] == [1, 3, 2]  # 7/5 = 1.4, 13/5 = 2.6, 10/5 = 2
    assert held_out(labels[labels == 2]).tolist() == mask[labels == 2].tolist()


def test_the_split_depends_on_no_global_state() -> None:
    labels = np.arange(100) % 4
    first = held_out(labels)
    np.random.seed(1)
    torch.manual_seed(1)
    assert held_out(labels).tolist() == first.tolist()
    # Zoos already trained keep their accuracies only while this split stays as it is.
    assert np.flatnonzero(first[:50]).tolist() == [1, 8, 9, 19, 21, 23, 25, 31, 35, 41, 46, 48]


def test_digits_are_all_of_the_source_split_without_overlap() -> None:
    data, source = load("digits"), load_digits()
    assert data.x_train.shape == (1438, 1, 8, 8) and data.x_test.shape == (359, 1, 8, 8)
    assert data.classes == tuple("0123456789")
    mask = held_out(source.target)
    mean, std = source.images[~mask].mean(), source.images[~mask].std()
    for part, x, y in ((~mask, data.x_train, data.y_train), (mask, data.x_test, data.y_test)):
        np.testing.assert_allclose(x[:, 0].numpy(), (source.images[part] - mean) / std, rtol=1e-5, atol=1e-6)
        assert y.tolist() == source.target[part].tolist()


def test_every_digit_gives_a_fifth_to_the_test() -> None:
    data = load("digits")
    train, test = data.y_train.bincount(), data.y_test.bincount()
    share = (test / (train + test)).tolist()
    assert share == pytest.approx([0.2] * 10, abs=0.003)
