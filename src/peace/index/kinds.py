"""Ways to search unit vectors by their cosine: exhaustively, along a graph of neighbours, in quantised cells."""

from abc import ABC, abstractmethod
from typing import ClassVar, Literal

from pydantic import PositiveInt
from torch import Tensor

from peace.errors import InputError
from peace.registry import Registry

# Two OpenMP runtimes in one process can crash it; loaded after torch, FAISS finds the one of torch.
import faiss  # isort: skip

KINDS: "Registry[IndexKind]" = Registry("index", "peace.index")
"""The kinds of index, by the names of the files in `configs/index`."""

_FEWEST, _POINTS, _ROUNDS, _SEED = 39, 64, 10, 1234
"""Of the k-means of cells: vectors a cell below which FAISS complains, those that it learns from, rounds, seed."""


class IndexKind(ABC):
    """How an index is built.

    Attributes:
        exact: Whether every search finds the nearest there are.
        made: What FAISS reads back from an index of this kind.
    """

    exact: ClassVar[bool] = False
    made: ClassVar[tuple[type, ...]]

    @abstractmethod
    def build(self, vectors: Tensor) -> "faiss.Index":
        """Returns an index of unit vectors, by inner product or by squared distance. Shape: [G, D]."""


@KINDS.register("exact")
class Exact(IndexKind):
    """Compares a query with every vector."""

    exact = True
    made = (faiss.IndexFlatIP,)

    def build(self, vectors: Tensor) -> "faiss.Index":
        """Returns the index of [G, D] unit vectors."""
        return _filled(faiss.IndexFlatIP(vectors.shape[1]), vectors)


@KINDS.register("hnsw")
class HNSW(IndexKind):
    """Walks a graph in which each vector is joined to near ones, from layer to denser layer.

    Args:
        links: M, neighbours of a vector; the lowest layer has twice as many.
        build_beam: efConstruction, candidates that are kept while a vector is joined.
        search_beam: efSearch, candidates that are kept while a query walks.

    Reference:
        Malkov and Yashunin 2016, arXiv:1603.09320.
    """

    made = (faiss.IndexHNSWFlat,)

    def __init__(self, links: PositiveInt = 16, build_beam: PositiveInt = 80, search_beam: PositiveInt = 64) -> None:
        self.links, self.build_beam, self.search_beam = links, build_beam, search_beam

    def build(self, vectors: Tensor) -> "faiss.Index":
        """Returns the index of [G, D] unit vectors."""
        index = faiss.IndexHNSWFlat(vectors.shape[1], self.links, faiss.METRIC_INNER_PRODUCT)
        index.hnsw.efConstruction, index.hnsw.efSearch = self.build_beam, self.search_beam
        return _filled(index, vectors)


@KINDS.register("ivf_pq")
class IVFPQ(IndexKind):
    """Sorts vectors into cells, keeps a code of few bytes of each, and re-ranks what the codes find.

    Args:
        cells: Number of k-means cells; null: four times the root of the number of vectors,
            fewer where that leaves too few vectors a cell.
        probes: Cells that a query looks into.
        code_bytes: Bytes of a product-quantised vector; a divisor of the dimension.
        refine: What candidates are compared by in the end: the codes alone, vectors in half precision, or the vectors.
        candidates: How many a neighbour that is asked for.

    Reference:
        Jégou, Douze and Schmid 2011, *Product quantization for nearest neighbor search*.
    """

    made = (faiss.IndexIVFPQ, faiss.IndexRefine, faiss.IndexRefineFlat)

    def __init__(
        self,
        cells: PositiveInt | None = None,
        probes: PositiveInt = 16,
        code_bytes: PositiveInt = 32,
        refine: Literal["none", "half", "exact"] = "half",
        candidates: PositiveInt = 16,
    ) -> None:
        self.cells, self.probes, self.code_bytes = cells, probes, code_bytes
        self.refine, self.candidates = refine, candidates

    def build(self, vectors: Tensor) -> "faiss.Index":
        """Returns the index of [G, D] unit vectors.

        Raises:
            InputError: The codes do not divide the dimension, or there are too few vectors to learn codes from.
        """
        count, dimension = vectors.shape
        cells = self.cells or max(1, min(round(4 * count**0.5), count // _FEWEST))
        # A byte has 256 values, each the mean of some vectors' parts.
        if dimension % self.code_bytes or count < max(256, cells):
            raise InputError("vectors do not fit the index", where="'index'", got=f"{count} of dimension {dimension}",
                             expected=f"at least {max(256, cells)}, of a dimension that {self.code_bytes} divides",
                             do="take index=exact, or other index.cells or index.code_bytes")  # fmt: skip
        # By distance, which ranks unit vectors as the inner product does: cells and codes of vectors that all lie on
        # one side of the sphere would otherwise tell that side and little else.
        coarse = faiss.IndexFlatL2(dimension)
        index = faiss.IndexIVFPQ(coarse, dimension, cells, self.code_bytes, 8, faiss.METRIC_L2)
        coarse.this.disown()
        index.own_fields = True
        index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = _SEED, _ROUNDS, _POINTS
        index.pq.cp.seed = _SEED
        # Few vectors make coarse codes, which the recall tells; FAISS would complain of each part on its own.
        index.cp.min_points_per_centroid = index.pq.cp.min_points_per_centroid = 1
        index.train(vectors[:: max(1, count // (_POINTS * cells))].contiguous().numpy())
        index.nprobe = min(self.probes, cells)
        return _filled(index if self.refine == "none" else self._refined(index), vectors)

    def _refined(self, index: "faiss.Index") -> "faiss.Index":
        if self.refine == "exact":
            finer = faiss.IndexFlatL2(index.d)
        else:
            finer = faiss.IndexScalarQuantizer(index.d, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_L2)
        refined = faiss.IndexRefine(index, finer)
        refined.k_factor = self.candidates
        # Python lets go of the parts, and the index that is made of them frees them.
        for part in (index, finer):
            part.this.disown()
        refined.own_fields = refined.own_refine_index = True
        return refined


def _filled(index: "faiss.Index", vectors: Tensor) -> "faiss.Index":
    index.add(vectors.contiguous().numpy())
    return index
