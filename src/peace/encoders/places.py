"""Learned codes of places that have identities, and the mean over an axis's nodes that keeps who is who."""

from collections.abc import Sequence

from torch import Tensor, nn

from peace.encoders.positions import POSITION_DIM, grid_positions
from peace.graph.weight_graph import Axis

HEADS = 8
"""Number of learned functions of the position that weight nodes with identities."""


class PlaceCodes(nn.Linear):
    """Codes of the cells of a grid: a linear map of their position features, of unit variance at the start.

    Args:
        dim: Length of a code.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(POSITION_DIM, dim, bias=False)

    def reset_parameters(self) -> None:
        """Draws the map from a standard normal: rows of position features have norm 1."""
        nn.init.normal_(self.weight)

    def of(self, shape: Sequence[int], like: Tensor) -> Tensor:
        """Returns the code of every cell of a grid, of the device and type of `like`. Shape: [cells, dim]."""
        return self(grid_positions(shape, like))


class NodeMean(nn.Module):
    """What an axis tells its layers' tokens.

    The mean over hidden nodes, once a head; over nodes with identities (pixel 17, class 3) 8 sums over the root of
    their number, each weighted by a learned function of the position, as such weights have random signs at the start.
    """

    def __init__(self) -> None:
        super().__init__()
        self.heads = PlaceCodes(HEADS)

    def forward(self, nodes: Tensor, axis: Axis) -> Tensor:
        """Returns what is read of an axis. Shape: [B, n, F] -> [B, 8 F]."""
        if axis.role == "hidden":
            return nodes.mean(1).repeat(1, HEADS)
        return (self.heads.of(axis.shape, nodes).T @ nodes).flatten(1) / axis.size**0.5
