"""Foreign checkpoints: tables of tensor names, file formats, and network sizes; for reading and writing."""
