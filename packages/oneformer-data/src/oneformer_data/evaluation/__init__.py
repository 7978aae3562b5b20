"""Scores of a model's predictions, and of saved ones."""
