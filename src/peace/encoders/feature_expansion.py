"""Feature expansion: separate weights for what each hop brings to a node, and the layer's principal components."""

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

Expansion = Annotated[int, Field(ge=0, le=6)]
"""Number of hops and of structural components; higher powers of a wide layer's spectrum leave float32."""

_FLOOR = 1e-2


class FeatureExpansion(nn.Module):
    """States of a layer's output nodes from their features, those of their neighbours, and the layer's spectrum.

    h = W₀ x + Σ_k W_k x⁽ᵏ⁾ + W_c c + b, k = 1 ... K. x⁽ᵏ⁾ is S x⁽ᵏ⁻¹⁾ with columns over their root mean squares (no
    less than 1% of that of all columns: what is zero but for rounding stays small), S = A Aᵀ, which joins two output
    nodes as far as they read the same inputs alike. x itself is left as it is, as its size says something.

    Left singular vectors of A have no sign of their own, those of equal singular values no basis, and no derivative
    there. The components therefore enter as c_ip = log(1 + (Sᵖ)_ii / mean_j (Sᵖ)_jj), p = 1 ... K: (Sᵖ)_ii = Σ_r σ_r²ᵖ
    u_ir² weighs a node's squared components by powers of the singular values; it is the same for either sign and any
    basis, follows the order of the nodes exactly, and has derivatives everywhere.

    Hops cost two products with the layer's weights a column of features; components a product of the layer with itself
    over its larger side.

    Args:
        feature_dim: F.
        hidden_dim: H.
        expansion: K; 0 for h = W₀ x + b.

    Shape:
        Features [B, n_out, F], weights [B, n_out, n_in / groups, n_tap] -> [B, n_out, H].

    Reference:
        Sun et al. 2023, arXiv:2305.06142: feature subspaces flattened, each with weights of its own, structural
        principal components, columns normalised. There the components are the first columns of UΣ of the adjacency.
    """

    def __init__(self, feature_dim: int, hidden_dim: int, expansion: Expansion) -> None:
        super().__init__()
        self.expansion = expansion
        self.own = nn.Linear(feature_dim, hidden_dim)
        self.hops = nn.ModuleList(nn.Linear(feature_dim, hidden_dim, bias=False) for _ in range(expansion))
        self.structure = nn.Linear(expansion, hidden_dim, bias=False) if expansion else None

    def forward(self, features: Tensor, weight: Tensor, groups: int = 1) -> Tensor:
        """Returns the first states of the output nodes. Shape: [B, n_out, H]."""
        states = self.own(features)
        if self.structure is None:
            return states
        rows = _unit_rows(weight.flatten(2).unflatten(1, (groups, -1)))
        for hop in self.hops:
            parted = features.unflatten(1, (groups, -1))
            features = _normalised((rows @ (rows.mT @ parted)).flatten(1, 2))
            states = states + hop(features)
        return states + self.structure(spectral_features(rows, self.expansion).flatten(1, 2))


def spectral_features(rows: Tensor, powers: int) -> Tensor:
    """Returns log(1 + (Sᵖ)_ii / mean_j (Sᵖ)_jj) for p = 1 ... `powers`, S = rows · rowsᵀ.

    Args:
        rows: The groups of each layer. Shape: [B, G, n, m].
        powers: Number of powers.

    Returns:
        Shape: [B, G, n, powers].
    """
    # On the smaller side: (Sᵖ)_ii is the product of two rows of powers of S, or of rows times powers of rowsᵀ rows.
    wide = rows.shape[2] <= rows.shape[3]
    gram = rows @ rows.mT if wide else rows.mT @ rows
    found = [gram.diagonal(dim1=2, dim2=3)] if wide else []
    power = gram if wide else rows
    while len(found) < powers:
        found.append(power.square().sum(3))
        if len(found) < powers:
            power, before = power @ gram, power
            found.append((before * power).sum(3))
    diagonals = torch.stack(found, dim=3)
    mean = diagonals.mean((1, 2), keepdim=True)
    return (diagonals / torch.where(mean > 0, mean, 1)).log1p()


def _unit_rows(rows: Tensor) -> Tensor:
    """Each layer with rows of root mean square norm 1, so that the mean of (Sᵖ)_ii lies between 1 and nᵖ⁻¹."""
    square = rows.square().sum(3).mean((1, 2))
    return rows / torch.where(square > 0, square, 1).sqrt()[:, None, None, None]


def _normalised(features: Tensor) -> Tensor:
    """Columns over their root mean squares. Shape: [B, n, F]."""
    square = features.square().mean(1, keepdim=True)
    least = _FLOOR**2 * square.mean(2, keepdim=True)
    total = square + least
    return features / torch.where(total > 0, total, 1).sqrt()
