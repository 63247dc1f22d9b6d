"""The verbs of the command line, one file each: `run` wires the rooms together."""
