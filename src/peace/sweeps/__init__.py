"""Sweeps: an experiment's axes and seeds as a manifest of commands, run here or by Slurm, and the state of each."""
