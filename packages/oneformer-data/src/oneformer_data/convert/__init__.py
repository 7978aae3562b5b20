"""Convert other data sets' annotations: each source module reads samples, each output writes them."""
