"""The `oneformer` command line, which brings together the commands of all installed packages."""
