"""Indexes that find a model's neighbours: exact search among vectors, BM25 among texts."""
