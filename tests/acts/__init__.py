"""One row a field: what changes when the field does."""
