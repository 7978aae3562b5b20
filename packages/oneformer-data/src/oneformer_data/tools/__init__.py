"""What `oneformer dataset` finds out: problems, counts, pictures of training examples."""
