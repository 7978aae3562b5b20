"""The tools behind `oneformer dataset`: check for problems, count, and draw training examples."""
