"""Principal components of flattened weights, linear or by a kernel: baselines of paper c."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor
from torch.nn import functional as F

from peace.errors import InputError
from peace.graph.stack import Stack
from peace.models.baselines import BASELINES, Baseline, flattened, landmarks


@BASELINES.register("pca")
class Pca(Baseline):
    """z = (s(w) - mean) A, where s(w) are the flattened weights, or their kernel with landmarks, and A is fitted.

    The linear one is fitted on all training models. A kernel's matrix grows with their square, so that one is fitted on
    some of them, drawn at random, and takes all others through the same map. A has unit columns in the linear case; by
    a kernel K, centred, A = V / √λ of its eigenvectors, as scikit-learn has it. Its own centring of the rows of a new
    matrix drops out: V is orthogonal to the constant.

    Args:
        kernel: `linear`, `cosine`, w·v / (‖w‖‖v‖), or `rbf`, exp(-γ‖w - v‖²).
        embedding_dim: D; fewer where there are fewer features or models.
        landmarks: How many models a kernel is fitted on, at most.
        gamma: γ; `median` for one over the median squared distance of two landmarks; null for one over the features.

    Reference:
        Schölkopf, Smola and Müller 1998, *Nonlinear component analysis as a kernel eigenvalue problem*; Schürholt et
        al. 2021, arXiv:2110.15288, section 4.2 (PCA_l, PCA_c, PCA_r, whose D, γ and fit it does not tell).
    """

    def __init__(
        self,
        kernel: Literal["linear", "cosine", "rbf"] = "linear",
        embedding_dim: PositiveInt = 50,
        landmarks: PositiveInt = 2000,
        gamma: PositiveFloat | Literal["median"] | None = None,
    ) -> None:
        super().__init__()
        self.kernel, self.embedding_dim, self.most, self.given_gamma = kernel, embedding_dim, landmarks, gamma
        for name in ("landmarks", "gamma", "mean", "weights"):
            self.register_buffer(name, torch.zeros(0, dtype=torch.float64))

    @property
    def invertible(self) -> bool:
        """Whether weights can be made of vectors: linearly they can."""
        return self.kernel == "linear"

    def features(self, stack: Stack) -> Tensor:
        """Returns flattened weights. Shape: [B, P]."""
        return flattened(stack)

    def fit(self, batch: Sequence[Stack], others: Sequence[Stack] = ()) -> None:
        """Takes the width and the map from the training models; see `Baseline.fit`."""
        super().fit(batch, others)
        rows = self.padded(batch).double()
        if self.kernel == "linear":
            self._fit_linear(rows)
        else:
            self._fit_kernel(landmarks(rows, self.most))

    def embed(self, batch: Sequence[Stack]) -> Tensor:
        """Returns principal components of a mixed batch, stack after stack. Shape: [B, D]."""
        rows = self.padded(batch)
        similar = rows.double() if self.kernel == "linear" else self._similar(rows.double())
        return ((similar - self.mean) @ self.weights).to(rows.dtype)

    def inverse(self, vectors: Tensor) -> Tensor:
        """Returns the weights nearest to the mean that have these components. Shape: [B, D] to [B, width] float64."""
        return vectors.double() @ self.weights.T + self.mean

    def _fit_linear(self, rows: Tensor) -> None:
        from sklearn.decomposition import PCA  # slow to import

        found = PCA(min(self.embedding_dim, *rows.shape), svd_solver="covariance_eigh").fit(rows.numpy())
        self.mean, self.weights = torch.from_numpy(found.mean_), torch.from_numpy(found.components_).T.contiguous()

    def _fit_kernel(self, rows: Tensor) -> None:
        from sklearn.decomposition import KernelPCA

        self.landmarks = F.normalize(rows) if self.kernel == "cosine" else rows
        distances = torch.pdist(rows)
        if not distances.any():
            raise InputError("all training models are the same", where="producer 'pca'", do="train another zoo")
        spread = distances.square().median().item() if self.given_gamma == "median" else rows.shape[1]
        gamma = self.given_gamma if isinstance(self.given_gamma, int | float) else 1 / spread
        self.gamma = torch.tensor(gamma, dtype=torch.float64)
        matrix = self._similar(rows)
        found = KernelPCA(min(self.embedding_dim, len(rows)), kernel="precomputed", eigen_solver="dense").fit(matrix)
        used = torch.from_numpy(found.eigenvalues_).clamp(min=0)
        scale = used.rsqrt().where(used > 0, 0)
        self.mean, self.weights = matrix.mean(0), torch.from_numpy(found.eigenvectors_) * scale

    def _similar(self, rows: Tensor) -> Tensor:
        """The kernel of each model with each landmark. Shape: [B, P] to [B, n]."""
        if self.kernel == "cosine":
            return F.normalize(rows) @ self.landmarks.T
        return torch.exp(-self.gamma * torch.cdist(rows, self.landmarks).square())
