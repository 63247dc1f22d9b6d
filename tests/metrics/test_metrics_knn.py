import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from peace.errors import InputError
from peace.metrics.knn import knn_accuracy


@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_accuracy_agrees_with_sklearn_fitted_without_the_group(neighbours: int) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 40)
    groups = np.arange(40) // 2
    vectors = generator.normal(size=(40, 3)) + labels[:, None]
    hits = 0
    for row in range(40):
        others = groups != groups[row]
        oracle = KNeighborsClassifier(neighbours, metric="cosine").fit(vectors[others], labels[others])
        hits += oracle.predict(vectors[row : row + 1])[0] == labels[row]
    assert 0 < hits < 40
    assert knn_accuracy(torch.from_numpy(vectors), labels, groups, neighbours) == hits / 40


def test_neighbours_of_the_same_group_do_not_vote() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.01], [0.0, 1.0], [0.01, 1.0]])
    labels = ["a", "a", "b", "b"]
    assert knn_accuracy(vectors, labels, ["1", "2", "3", "4"], neighbours=1) == 1.0
    assert knn_accuracy(vectors, labels, ["1", "1", "3", "3"], neighbours=1) == 0.0
    assert knn_accuracy(vectors, labels, [None] * 4, neighbours=1) == 1.0
    assert knn_accuracy(vectors, ["a", "b", "a", "b"], [None] * 4, neighbours=1) == 0.0


def test_a_tie_of_votes_goes_to_the_nearest() -> None:
    vectors = torch.tensor([[1.0, 0.0], [1.0, 0.1], [1.0, 0.25]])
    # Row 1 sees rows 0 and 2, of which 0 is nearer by angle; rows 0 and 2 see row 1 first.
    assert knn_accuracy(vectors, ["a", "a", "b"], [0, 1, 2], neighbours=2) == pytest.approx(2 / 3)
    # With more neighbours asked for than there are, those that there are vote.
    assert knn_accuracy(vectors, ["a", "a", "b"], [0, 1, 2], neighbours=9) == pytest.approx(2 / 3)


def test_a_collapsed_encoder_is_at_chance() -> None:
    labels = np.repeat([0, 1, 2, 3], 100)
    accuracy = knn_accuracy(torch.ones(400, 8), labels, np.arange(400), neighbours=1)
    assert accuracy == pytest.approx(0.25, abs=0.08)


def test_bad_input_is_refused() -> None:
    vectors = torch.eye(3)
    with pytest.raises(InputError, match="3 vectors, 2 labels"):
        knn_accuracy(vectors, ["a", "b"], [0, 1])
    with pytest.raises(InputError, match="0 neighbours"):
        knn_accuracy(vectors, ["a", "b", "c"], [0, 1, 2], neighbours=0)
    with pytest.raises(InputError, match="no label in row 1"):
        knn_accuracy(vectors, ["a", None, "c"], [0, 1, 2])
    with pytest.raises(InputError, match="row 0 has no neighbour outside its group 'r'"):
        knn_accuracy(vectors, ["a", "b", "c"], ["r"] * 3)


def test_who_is_excluded_does_not_vote_where_neighbours_are_few() -> None:
    vectors = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    # The group sees only the last row, an "a"; the last row sees one "a" and three "b".
    accuracy = knn_accuracy(vectors, ["a", "b", "b", "b", "a"], ["g", "g", "g", "g", "h"], neighbours=9)
    assert accuracy == pytest.approx(1 / 5)
