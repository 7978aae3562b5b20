"""One task on several processes and machines."""
