"""Weight graphs: axes, layers, building one from a module, the symmetry group, canonical form, batches as stacks."""
