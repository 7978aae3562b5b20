"""`python -m oneformer_deploy`: the commands of an inference host, without torch and without oneformer-cli."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from oneformer_spec.commands.exit import run_reporting
from oneformer_spec.errors import UsageError

TASKS = {
    "inference": "segment a folder of images",
    "gen_trt_engine": "build a TensorRT engine of an ONNX file",
    "quantize": "make a model smaller: 8-bit weights, INT8 layers",
    "evaluate": "score a model on labelled images (needs oneformer-deploy[evaluate])",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if options.command == "info" or any(word.startswith("-") for word in rest):
        parser.parse_args(arguments)  # ends with argparse's own message where words are left over
    else:
        options.overrides += rest  # key=value words that stand after an option
    return run_reporting(lambda: _run(options), debug=options.debug)


def _run(options: argparse.Namespace) -> None:
    if options.command == "info":
        from oneformer_deploy.info import print_info

        print_info(options.file, as_json=options.json)
        return
    from oneformer_spec.commands.task_command import run_task
    from oneformer_spec.plugins.registry import registry

    found = registry()
    for warning in found.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if options.command == "evaluate" and "evaluate" not in found.commands:
        raise UsageError(
            "evaluate is not installed here; get it with: python -m pip install 'oneformer-deploy[evaluate]'"
        )
    run_task(found.command(options.command), options.experiment_spec, options.overrides)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m oneformer_deploy", description=__doc__)
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
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
            help="spec file; may be repeated, later files win",
        )
        task.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="settings that win over the files")
    info = commands.add_parser("info", parents=[common], help="print what a model file says about itself")
    info.add_argument("file", metavar="MODEL", type=Path, help="an .onnx, .etlt or .engine file")
    info.add_argument("--json", action="store_true", help="print it as JSON")
    return parser


if __name__ == "__main__":
    sys.exit(main())
