"""The output files of inference."""
