"""Batches: collating, loading, randomness by position."""
