"""What embeds weights: the trained embedder, and baselines that are not trained by gradients."""
