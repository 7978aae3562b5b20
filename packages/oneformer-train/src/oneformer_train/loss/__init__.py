"""The training loss: matching, sampled points, terms."""
