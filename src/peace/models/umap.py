"""UMAP of flattened weights: a baseline of paper c. It needs the optional package `umap-learn`."""

import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from pydantic import PositiveInt
from torch import Tensor

from peace.errors import InputError
from peace.graph.stack import Stack
from peace.models.baselines import BASELINES, Baseline, flattened, landmarks

if TYPE_CHECKING:
    from umap import UMAP

_RANDOM_STATE = 0


@BASELINES.register("umap")
class Umap(Baseline):
    """A layout of some training models in which neighbours stay neighbours, and of all others among them.

    A fitted layout is no tensor and a pickle runs code, so what is kept is the models that it was fitted on: it is
    fitted anew when first asked for vectors, with the same random numbers and so to the same layout, on one machine.
    How a model is placed depends a little on those in its batch, whose strongest neighbourhood is its unit. A layout of
    10,000 models in 50 dimensions takes two minutes of one core, and placing 256 others half a second.

    Args:
        embedding_dim: D.
        neighbours: How many neighbours make a neighbourhood; fewer where there are fewer models.
        landmarks: How many models it is fitted on, at most.

    Raises:
        InputError: `umap-learn` is not installed; raised when it is fitted.

    Reference:
        McInnes, Healy and Melville 2018, arXiv:1802.03426; Schürholt et al. 2021, arXiv:2110.15288, section 4.2 (Um,
        whose D and neighbours it does not tell).
    """

    def __init__(
        self, embedding_dim: PositiveInt = 50, neighbours: PositiveInt = 15, landmarks: PositiveInt = 10_000
    ) -> None:
        super().__init__()
        self.embedding_dim, self.neighbours, self.most = embedding_dim, neighbours, landmarks
        self.register_buffer("landmarks", torch.zeros(0))
        self._layout: UMAP | None = None

    def features(self, stack: Stack) -> Tensor:
        """Returns flattened weights. Shape: [B, P]."""
        return flattened(stack)

    def fit(self, batch: Sequence[Stack], others: Sequence[Stack] = ()) -> None:
        """Takes the width and the landmarks from the training models; see `Baseline.fit`."""
        _require_umap()
        super().fit(batch, others)
        self.landmarks, self._layout = landmarks(self.padded(batch), self.most), None

    def embed(self, batch: Sequence[Stack]) -> Tensor:
        """Returns places of a mixed batch, stack after stack. Shape: [B, D]."""
        rows = self.padded(batch)
        if self._layout is None:
            self._layout = self._fitted()
        return torch.from_numpy(self._layout.transform(rows.numpy())).to(rows.dtype)

    def _fitted(self) -> "UMAP":
        _require_umap()
        from umap import UMAP  # slow to import

        neighbours = max(2, min(self.neighbours, len(self.landmarks) - 1))
        # The spectral start needs more models than dimensions.
        start = "spectral" if len(self.landmarks) > self.embedding_dim + 2 else "random"
        layout = UMAP(neighbours, self.embedding_dim, init=start, random_state=_RANDOM_STATE, n_jobs=1)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Spectral initialisation failed")
            return layout.fit(self.landmarks.numpy())


def _require_umap() -> None:
    if find_spec("umap") is None:
        raise InputError("UMAP is not installed", where="producer 'umap'", do="run `pip install -e .[umap]`")
