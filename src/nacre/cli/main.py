"""The entry point of the command line: maps errors to one sentence and exit status 2. commands.py has the rest."""

from __future__ import annotations

import logging
import sys
from typing import Any

import jax

from nacre import STARTED
from nacre.cli import commands
from nacre.errors import NacreError, is_out_of_memory
from nacre.runs.compilation_cache import use_compilation_cache


def main(argv: list[str] | None = None) -> int:
    """Runs one command; 0 when it did what was asked, 2 with one sentence on stderr when it could not."""
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells of every save
    use_compilation_cache()
    if argv is None:
        sys.unraisablehook = _unraisable
    try:
        return commands.run(sys.argv[1:] if argv is None else argv, started=STARTED)
    except NacreError as error:
        print(f"nacre: {error}", file=sys.stderr)
        return 2
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        print("nacre: there was not enough memory; ask for less at once, or close other programs", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except KeyboardInterrupt:
        print("nacre: stopped at once; a run goes on from its last checkpoint with 'nacre resume'", file=sys.stderr)
        return 130


def _unraisable(raised: Any) -> None:
    """Keeps to itself that reads of a damaged checkpoint end after Orbax stopped waiting for them."""
    if not (isinstance(raised.exc_value, RuntimeError) and "Event loop is closed" in str(raised.exc_value)):
        sys.__unraisablehook__(raised)


if __name__ == "__main__":
    sys.exit(main())
