"""A third-party task for oneformer."""
