"""Shared by all commands: exit codes, notes, progress, the results folder of a run."""
