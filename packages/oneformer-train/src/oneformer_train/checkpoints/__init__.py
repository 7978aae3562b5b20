"""Saving, keeping and resuming: where a run is and how it continues there."""
