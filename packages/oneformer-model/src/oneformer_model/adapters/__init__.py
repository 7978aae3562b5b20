"""Weights of others: key tables, the files they come in, and the sizes they tell; both directions."""
