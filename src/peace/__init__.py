"""PEACE: Permutation-Equivariant Architecture Contrastive Embeddings."""

__version__ = "0.1.0"
