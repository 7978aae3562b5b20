"""The steps from files and overrides to a checked spec; `oneformer_spec.load` is the way in."""
