"""The Typer apps of `oneformer score` and `oneformer dataset`."""
