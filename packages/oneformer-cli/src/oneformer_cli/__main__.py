"""`python -m oneformer_cli` is `oneformer`."""

from oneformer_cli.main import main

main()
