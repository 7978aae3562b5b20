"""The `oneformer` command: finds the commands of all installed packages."""
