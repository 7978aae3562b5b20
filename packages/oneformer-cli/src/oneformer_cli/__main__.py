"""Lets `python -m oneformer_cli` run `oneformer`."""

from oneformer_cli.main import main

main()
