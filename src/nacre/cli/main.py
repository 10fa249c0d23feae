"""The entry point of the command line: finds the command, and maps errors to one sentence and an exit status."""

from __future__ import annotations

import importlib
import logging
import os
import select
import sys
import time
from collections.abc import Sequence
from typing import Any

from nacre.cli.parsing import HelpShown
from nacre.errors import NacreError, is_out_of_memory, on_a_line, unknown
from nacre.families.plugins import import_plugin
from nacre.sweeps.driver_watch import VARIABLE, watch_driver

NAMES = (
    "list", "train", "sweep", "resume", "evaluate", "adapt", "finetune", "report", "compare", "reproduce", "check",
    "benchmark", "collect", "data", "export", "push",
)  # fmt: skip
COMMANDS = {name: f"nacre.cli.{name}" for name in NAMES}
"""Command -> its module, which is imported when the command is used: `Command` describes it, `run` carries it out."""


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns its exit status.

    0: it did what was asked, or stopped at its time limit. 2: it could not, and one sentence on stderr says why.
    130, 143: Ctrl-C or SIGTERM stopped it. 1: nobody reads its output any more.
    """
    started = time.monotonic()
    if argv is None and VARIABLE in os.environ:
        watch_driver()
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every save
    if argv is None:
        sys.unraisablehook = _unraisable
    try:
        status = _run(sys.argv[1:] if argv is None else argv, started)
        sys.stdout.flush()
        return status
    except HelpShown:
        return 0
    except NacreError as error:
        return _refused(str(error), error.status)
    except BrokenPipeError:
        if not _reader_is_gone():
            raise  # another pipe, such as a plugin's
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what Python still writes at its end
        return 1
    except KeyboardInterrupt:
        print("nacre: stopped at once; a run resumes from its last checkpoint with 'nacre resume'", file=sys.stderr)
        return 130
    except SystemExit as stop:
        return _refused(f"code that is not nacre's ended the program, by sys.exit({stop.code!r}); check the plugin.")
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return _refused("there was not enough memory; ask for less at once, or close other programs")


def _refused(sentence: str, status: int = 2) -> int:
    print(f"nacre: {on_a_line(sentence)}", file=sys.stderr)
    return status


def _reader_is_gone() -> bool:
    """Whether stdout is a pipe that nobody reads, as in `nacre list | head -1`."""
    try:
        poll = select.poll()
        poll.register(sys.stdout, 0)  # errors are told in any case
        return bool(poll.poll(0))
    except (OSError, ValueError, AttributeError):  # no file, or no poll on this system
        return False


def _run(argv: Sequence[str], started: float) -> int:
    """Carries out one command line; raises NacreError for what cannot be done. Returns the exit status."""
    argv = _without_plugins(argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
    elif argv[0] == "--version":
        from importlib import metadata

        print(f"nacre {metadata.version('nacre')}")
    elif argv[0] in COMMANDS:
        status: int | None = importlib.import_module(COMMANDS[argv[0]]).run(list(argv[1:]), started)
        return status or 0
    else:
        raise unknown("command", argv[0], COMMANDS)
    return 0


def _without_plugins(argv: Sequence[str]) -> list[str]:
    """Imports what --plugin names, which registers families or algorithms, and leaves it out."""
    kept: list[str] = []
    rest = iter(argv)
    for arg in rest:
        flag, equals, module = arg.partition("=")
        if flag != "--plugin":
            kept.append(arg)
            continue
        module = module if equals else next(rest, "")
        import_plugin(module)
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
