"""`python -m oneformer_deploy`: the commands of an inference host; they need neither torch nor oneformer-cli."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from oneformer_spec.commands.exit import run_reporting
from oneformer_spec.errors import UsageError

TASKS = {
    "inference": "segment a folder of images",
    "gen_trt_engine": "build a TensorRT engine from an ONNX file",
    "quantize": "make a model smaller and faster: 8-bit weights, INT8 layers",
    "evaluate": "score a model on labelled images (needs oneformer-deploy[evaluate])",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command == "info" or any(word.startswith("-") for word in rest):
        parser.parse_args(arguments)  # exits with argparse's own message about the unknown arguments
    else:
        options.overrides += rest  # key=value arguments that come after an option
    return run_reporting(lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    if options.command == "info":
        from oneformer_deploy.info import print_info

        print_info(options.file, as_json=options.json)
        return
    from oneformer_spec.commands.task_command import run_task
    from oneformer_spec.plugins.registry import registry

    plugins = registry()
    for warning in plugins.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if options.command == "evaluate" and "evaluate" not in plugins.commands:
        raise UsageError(
            "evaluate is not installed; install it with: python -m pip install 'oneformer-deploy[evaluate]'"
        )
    run_task(plugins.command(options.command), options.experiment_spec, options.overrides)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m oneformer_deploy", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback when an error occurs")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in TASKS.items():
        task = commands.add_parser(name, parents=[common], help=summary, description=summary)
        task.add_argument(
            "-e",
            "--experiment_spec",
            metavar="FILE",
            type=Path,
            action="append",
            default=[],
            help="spec file; may be repeated, later files override earlier ones",
        )
        task.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="settings that override the spec files")
    info = commands.add_parser("info", parents=[common], help="show a model file's labels, sizes and thresholds")
    info.add_argument("file", metavar="MODEL", type=Path, help="an .onnx, .etlt or .engine file")
    info.add_argument("--json", action="store_true", help="print JSON instead")
    return parser


if __name__ == "__main__":
    sys.exit(main())
