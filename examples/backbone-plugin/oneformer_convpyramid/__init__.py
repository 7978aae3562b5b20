"""A third-party backbone for oneformer."""
