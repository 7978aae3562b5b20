"""Annotations of others into ours: a source makes samples, an output writes them."""
