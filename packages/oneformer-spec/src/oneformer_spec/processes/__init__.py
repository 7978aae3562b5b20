"""Split the work of one task over several processes and machines."""
