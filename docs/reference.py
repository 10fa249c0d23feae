"""The reference pages that follow from the code: commands, settings of every method, the Python API. As Markdown."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from typing import Any

from fields import Field, fields

import nacre
from nacre.algorithms.registry import ALGORITHMS
from nacre.cli.main import COMMANDS
from nacre.presets.settings import ANY_FAMILY
from nacre.runs.experiment import RunOptions

BASE = "Settings of every method"


def commands() -> str:
    """Every command with its arguments."""
    intro = (
        "Read from the code; `nacre COMMAND --help` shows the same. What all have in common: [running.md](running.md)."
    )
    sections = [_command(name, importlib.import_module(module).Command) for name, module in COMMANDS.items()]
    return "\n\n".join(["# Command line", intro, *sections]) + "\n"


def _command(name: str, kind: type[Any]) -> str:
    hints = fields(kind)
    places = [field for field in hints.values() if field.type.startswith("Positional")]
    usage = " ".join(f"[{place.name.upper()}]" if place.default else place.name.upper() for place in places)
    line = f"{name} {usage}".rstrip()
    rows = [_argument_row(field) for field in _with_nested(hints, kind)]
    parts = [
        f"## nacre {name}",
        prose(kind.__doc__ or ""),
        f"```\nnacre {line} [OPTIONS]\n```",
    ]
    if name == "train":
        parts.append(
            "Every [setting](settings.md) of the algorithm and of the run, and every option of the family, is a flag."
        )
    return "\n\n".join([*parts, _table(("argument", "default", "meaning"), rows)])


def _with_nested(hints: dict[str, Field], kind: type[Any]) -> Iterator[Field]:
    """Fields, those of a nested dataclass in place of the field that holds it."""
    for field in hints.values():
        nested = getattr(importlib.import_module(kind.__module__), field.type, None)
        if dataclasses.is_dataclass(nested) and isinstance(nested, type):
            yield from fields(nested).values()
        else:
            yield field


def _argument_row(field: Field) -> tuple[str, str, str]:
    if field.type.startswith("Positional"):
        return f"`{field.name.upper()}`", _default(field), prose(field.doc)
    flag = f"--{field.name.replace('_', '-')}"
    short = re.search(r"Annotated\[.*, '(-[^']*)'\]", field.type)
    if short and short[1].startswith("--"):
        flag = short[1]
    elif short:
        flag = f"{short[1]}, {flag}"
    value = "" if field.type == "bool" else " " + _placeholder(field.type)
    return f"`{flag}{value}`", _default(field), prose(field.doc)


def _placeholder(kind: str) -> str:
    chosen = re.search(r"Literal\[([^\]]*)\]", kind)
    if chosen:
        return "|".join(part.strip(" '") for part in chosen[1].split(","))
    return {"int": "N", "float": "X", "Path": "PATH"}.get(
        re.split(r"[ ,\[]", kind.removeprefix("Annotated["))[0], "TEXT"
    )


def _default(field: Field) -> str:
    """As one writes it after the flag."""
    plain = re.sub(r"^Path\((.*)\)$", r"\1", field.default).strip("'")
    return "" if plain in ("", "None", "False", "()") else f"`{plain}`"


def settings() -> str:
    """Every setting of every method, those that all have first."""
    common = fields(nacre.MethodSettings)
    intro = (
        "Read from the code. A setting is a flag of `nacre train` with hyphens for underscores, an argument of "
        "`nacre.train`, and a line of a run's config.json. The default is that of the class; what a preset changes "
        "for a family is shown by `nacre train ALGORITHM FAMILY --preset PRESET --help`."
    )
    parts = ["# Settings", intro, f"## {BASE}", _settings_table(common.values())]
    parts += ["## Options of every run", _settings_table(fields(RunOptions).values())]
    for name, algorithm in ALGORITHMS.items():
        own = [field for key, field in fields(algorithm.settings).items() if common.get(key) != field]
        told = ", ".join(f"`{preset}`{_for(rows)}" for preset, rows in algorithm.presets.items())
        parts += [f"## {name}", prose(algorithm.settings.__doc__ or ""), f"Presets: {told}.", _settings_table(own)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _for(rows: Any) -> str:
    return "" if ANY_FAMILY in rows else f" (for {', '.join(rows)})"


def _settings_table(some: Iterable[Field]) -> str:
    rows = [
        (f"`{field.name}`", f"`{field.default}`" if field.default else "", prose(field.doc))
        for field in some
        if not field.type.startswith("ClassVar")
    ]
    return _table(("setting", "default", "meaning"), rows) if rows else ""


def api() -> str:
    """Every public name."""
    intro = (
        "Read from the code: all that `import nacre` gives. Shapes stand in brackets. Errors are `nacre.NacreError`."
    )
    functions = [name for name in nacre.__all__ if inspect.isfunction(getattr(nacre, name))]
    classes = [name for name in nacre.__all__ if inspect.isclass(getattr(nacre, name))]
    tables = [name for name in nacre.__all__ if name not in {*functions, *classes}]
    parts = [
        "# Python API",
        intro,
        "## Functions",
        *(_function(name, getattr(nacre, name), "###") for name in functions),
    ]
    parts += ["## Classes", *(_class(name, getattr(nacre, name)) for name in classes)]
    parts += [
        "## Tables",
        *(f"### nacre.{name}\n\nWhat is known by name: {len(getattr(nacre, name))} entries." for name in tables),
    ]
    return "\n\n".join(parts) + "\n"


def _function(name: str, function: Any, level: str) -> str:
    return "\n\n".join(
        [f"{level} nacre.{name}", _signature(f"nacre.{name}", function), prose(inspect.getdoc(function) or "")]
    )


def _signature(name: str, function: Any) -> str:
    text = f"{name}{inspect.signature(function)}".replace("'", "")
    return f"```python\n{_wrapped(text)}\n```"


def _wrapped(text: str) -> str:
    """A long signature with an argument a line."""
    if len(text) <= 100:
        return text
    head, rest = text.split("(", 1)
    arguments, after = rest.rsplit(") ->", 1) if ") ->" in rest else (rest.rstrip(")"), "")
    split = re.split(r", (?![^\[(]*[\])])", arguments)
    return f"{head}(\n    " + ",\n    ".join(split) + "\n)" + (f" ->{after}" if after else "")


def _class(name: str, kind: type[Any]) -> str:
    parts = [f"### nacre.{name}", prose(inspect.getdoc(kind) or "")]
    rows = [(f"`{field.name}`", f"`{field.type}`", prose(field.doc)) for field in fields(kind).values()]
    if rows:
        parts.append(_table(("field", "type", "meaning"), rows))
    source = inspect.getsource(kind)
    for method, member in vars(kind).items():
        doc = inspect.getdoc(member)
        if method.startswith("_") or not doc or f"def {method}(" not in source:
            continue
        if isinstance(member, property):
            parts.append(f"**{method}** (property): {prose(doc)}")
        elif callable(getattr(kind, method)):
            parts += [_signature(method, getattr(kind, method)), prose(doc)]
    return "\n\n".join(parts)


def prose(text: str) -> str:
    """A docstring as Markdown: outside of backquotes nothing is markup."""
    pieces = re.split(r"(`[^`]*`)", inspect.cleandoc(text))
    return "".join(piece if piece[:1] == "`" else re.sub(r"([*_<])", r"\\\1", piece) for piece in pieces)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(
        "| " + " | ".join(re.sub(r"\s+", " ", cell).replace("|", "\\|") for cell in row) + " |" for row in lines
    )
