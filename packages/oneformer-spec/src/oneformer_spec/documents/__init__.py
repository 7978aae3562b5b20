"""Spec files as text: templates, resolved specs, edits in place."""
