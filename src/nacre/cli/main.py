"""The entry point of the command line: finds the command, and maps errors to one sentence and an exit status."""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
import sys
import time
from collections.abc import Sequence
from typing import Any

from nacre.errors import NacreError, is_out_of_memory, unknown
from nacre.families.catalog import PLUGINS
from nacre.families.plugins import import_plugin

COMMANDS = {
    name: f"nacre.cli.{name}"
    for name in ("list", "train", "resume", "evaluate", "adapt", "report", "reproduce", "benchmark")
}
"""Command -> its module, which is imported when the command is used: `Command` describes it, `run` carries it out."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command; 0 when it did what was asked, 2 with one sentence on stderr when it could not."""
    started = time.monotonic()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every save
    if argv is None:
        sys.unraisablehook = _unraisable
    try:
        _run(sys.argv[1:] if argv is None else argv, started)
        return 0
    except NacreError as error:
        print(f"nacre: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        print("nacre: stopped at once; a run goes on from its last checkpoint with 'nacre resume'", file=sys.stderr)
        return 130
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        print("nacre: there was not enough memory; ask for less at once, or close other programs", file=sys.stderr)
        return 2


def _run(argv: Sequence[str], started: float) -> None:
    """Carries out one command line; raises NacreError for what cannot be done."""
    argv = _without_plugins(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
    elif argv[0] == "--version":
        print(f"nacre {importlib.metadata.version('nacre')}")
    elif argv[0] in COMMANDS:
        importlib.import_module(COMMANDS[argv[0]]).run(list(argv[1:]), started)
    else:
        raise unknown("command", argv[0], COMMANDS)


def _without_plugins(argv: Sequence[str]) -> list[str]:
    """Imports what --plugin names, which registers families, and leaves it out."""
    kept: list[str] = []
    rest = iter(argv)
    for arg in rest:
        flag, equals, module = arg.partition("=")
        if flag != "--plugin":
            kept.append(arg)
            continue
        module = module if equals else next(rest, "")
        import_plugin(module)
        if module not in PLUGINS:
            PLUGINS.append(module)
    return kept


def _overview() -> str:
    described = {name: importlib.import_module(module).Command.__doc__ or "" for name, module in COMMANDS.items()}
    lines = [f"  nacre {name:<10} {text.splitlines()[0]}" for name, text in described.items()]
    return "\n".join(["nacre: agents that learn a new task within a few episodes.", "", *lines, "",
                      "Add --help to a command for its arguments; --plugin MODULE to import families of your own;",
                      "nacre --version."])  # fmt: skip


def _unraisable(raised: Any) -> None:
    """Keeps to itself that reads of a damaged checkpoint end after Orbax stopped waiting for them."""
    if not (isinstance(raised.exc_value, RuntimeError) and "Event loop is closed" in str(raised.exc_value)):
        sys.__unraisablehook__(raised)


if __name__ == "__main__":
    sys.exit(main())
