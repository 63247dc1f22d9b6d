"""Architectures rebuilt, without numbers, from what travels with a checkpoint: one file a family."""
