"""The command `dataset`: its Typer app, put together from the modules of its commands.

Only these modules import typer, which comes with oneformer-cli. What a command runs is imported when it runs.
"""

from __future__ import annotations

import typer

from oneformer_data import check_app, convert_app, shard_app, show_app, stats_app

app = typer.Typer(
    help="Check, count, show, convert and pack annotated images.", no_args_is_help=True, add_completion=False
)
app.command("check")(check_app.check)
app.command("stats")(stats_app.stats)
app.command("show")(show_app.show)
app.command("shard")(shard_app.shard)
app.add_typer(convert_app.app, name="convert")
