"""Finding out why a run fails, or what it will cost."""
