"""The commands that oneformer-cli itself adds."""

from __future__ import annotations

from oneformer_spec.hooks import Command, hookimpl


@hookimpl
def oneformer_commands() -> list[Command]:
    """Declare the commands that need only oneformer-spec."""
    return [
        Command("get-spec", "oneformer_cli.spec_commands:get_spec", "Print a commented spec to edit.", "app"),
        Command("get-schema", "oneformer_cli.spec_commands:get_schema", "Print the JSON Schema of specs.", "app"),
        Command("validate", "oneformer_cli.spec_commands:validate", "Check a spec without running anything.", "app"),
        Command("spec", "oneformer_cli.spec_set:app", "Change a spec file in place.", "app"),
        Command("plugins", "oneformer_cli.plugins:app", "List the installed plugins and what each provides.", "app"),
    ]
