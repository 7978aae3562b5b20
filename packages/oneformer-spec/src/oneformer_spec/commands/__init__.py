"""What every command shares: exit codes, notes, progress, the folder of a run."""
