"""The files that inference writes."""
