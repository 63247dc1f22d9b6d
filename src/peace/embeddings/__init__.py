"""The embedding table and the ranking: the neck between what makes embeddings and what scores them."""
