"""Write spec files: templates, the resolved spec of a run, edits in place."""
