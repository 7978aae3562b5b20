"""From the data sets that a spec names to annotated images."""
