"""Code of other people: entry points of installed packages, and modules that register families or algorithms."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from nacre.errors import NacreError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


def caller_module() -> str:
    """The module that called the function that calls this: who registers. Importing it again registers again."""
    return str(sys._getframe(2).f_globals.get("__name__", "__main__"))


def import_plugin(module: str) -> None:
    """Imports a module that registers something; a file in the working directory too, as with `python -m`.

    Raises NacreError where it cannot be imported.
    """
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", module):
        raise NacreError(f"--plugin {module[:60]!r} is no name of a Python module; write it as in 'import'.")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        importlib.import_module(module)
    except (Exception, SystemExit) as error:
        reason = (f"{type(error).__name__}: {error}".splitlines() or [""])[0]
        raise NacreError(f"the plugin {module} cannot be imported ({reason}); name a Python module.") from error


def remembered(modules: Iterable[str]) -> list[str]:
    """The modules among these that a later process can import: what was typed in or run as a script it cannot."""
    return sorted({module for module in modules if module not in ("", "__main__")})


def entry_points(group: str) -> dict[str, EntryPoint]:
    """What installed packages offer in a group such as `nacre.families`, by name."""
    from importlib import metadata  # slow to import

    return {point.name: point for point in metadata.entry_points(group=group)}


def load_all(group: str, find: Callable[[str], Any]) -> None:
    """Calls `find` with all names that installed packages offer in a group. What cannot be loaded is passed over: who
    asks for it by its name is told."""
    for name in entry_points(group):
        with suppress(NacreError):
            find(name)


def load_entry_point(group: str, name: str) -> Any:
    """What an installed package offers under this name; None where none does. NacreError where it cannot be loaded."""
    point = entry_points(group).get(name)
    if point is None:
        return None
    try:
        return point.load()
    except (Exception, SystemExit) as error:
        reason = (f"{type(error).__name__}: {error}".splitlines() or [""])[0]
        package = point.dist.name if point.dist is not None else point.value
        raise NacreError(f"'{name}' of the package {package} cannot be loaded ({reason}); remove it.") from error
