"""What Weights & Biases is told of a command; no other room imports wandb, and this one only where it is used."""
