"""Two-dimensional pictures of an embedding table; nothing is claimed from them."""

from importlib.util import find_spec

import numpy as np
from pandas import DataFrame

from peace import seeding
from peace.embeddings.table import EmbeddingTable
from peace.errors import InputError

_SMALLEST_UMAP = 5


def project(table: EmbeddingTable, seed: int = 0) -> tuple[DataFrame, str]:
    """Returns a point in the plane for each model, and the name of the method that placed it.

    The method is UMAP by cosine where the optional package `umap-learn` is installed and there are five models or more,
    else the first two principal components. Rows are sorted by id, because UMAP depends on their order.

    Args:
        table: The embeddings.
        seed: Decides UMAP's random numbers.

    Returns:
        Rows with `id`, `task`, `architecture`, `split`, `x` and `y`; and `umap` or `pca`.

    Raises:
        InputError: There are fewer than two models or dimensions.

    Reference:
        McInnes, Healy and Melville 2018, arXiv:1802.03426.
    """
    if min(table.vectors.shape) < 2:
        got = "{} models of dimension {}".format(*table.vectors.shape)
        raise InputError("nothing to lay out in a plane", got=got, expected="two or more of each")
    table = table.select(table.rows["id"].argsort())
    points, method = _points(table.vectors.numpy(), seeding.key("projection", seed) % 2**32)
    rows = table.rows[["id", "task", "architecture", "split"]]
    return rows.assign(x=points[:, 0], y=points[:, 1]), method


def _points(vectors: np.ndarray, random_state: int) -> tuple[np.ndarray, str]:
    # Either package takes seconds to import, and most evaluations draw no picture.
    if len(vectors) < _SMALLEST_UMAP or find_spec("umap") is None:
        from sklearn.decomposition import PCA

        return PCA(n_components=2, svd_solver="full").fit_transform(vectors), "pca"
    from umap import UMAP

    neighbours = min(15, len(vectors) - 1)
    layout = UMAP(n_neighbors=neighbours, metric="cosine", random_state=random_state, n_jobs=1)
    return layout.fit_transform(vectors), "umap"
