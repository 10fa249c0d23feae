"""Command lines as values: a command is a dataclass whose fields are its arguments."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
import typing
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from nacre.errors import NacreError, other_word, shown, unknown

MAX_SEEDS = 256
"""Runs that one program trains side by side, at most."""

Parsed = TypeVar("Parsed")
Value = TypeVar("Value")
POSITIONAL = "positional"
Positional = Annotated[Value, POSITIONAL]
"""A field that is given by its place in the command line, not by a flag. `Annotated[Path, "-o"]`: one whose flag has a
second, short name."""


class HelpShown(Exception):
    """The help that was asked for is printed; the command has nothing left to do."""


def parse(kind: type[Parsed], args: Sequence[str], prog: str) -> Parsed:
    """`args` as a value of this dataclass. What it refuses becomes one sentence; --help prints and raises HelpShown."""
    known = flags(kind) | switches(kind)
    for arg in args:
        name = arg.split("=")[0].replace("_", "-")
        if name.startswith("--") and name not in known:
            raise _unknown_flag(name, kind, prog)
    import tyro  # takes longer to import than the rest of a refused command line

    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            return tyro.cli(_for_tyro(kind), args=list(args), prog=prog, config=(tyro.conf.OmitArgPrefixes,))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise HelpShown from None
        raise NacreError(f"{shown(_sentence(heard.getvalue()), 300)}; see '{prog} --help'.") from None


def refuse(command: Any, names: Iterable[str], why: str) -> None:
    """Refuses the first of these fields of a parsed command that was given; `why` says in how far it has no effect."""
    for field in dataclasses.fields(command):
        if field.name in names and getattr(command, field.name) != field.default:
            flag = f"--{field.name.replace('_', '-')}"
            raise NacreError(f"{flag} {why}; leave out {flag}.")


def _unknown_flag(name: str, kind: type[Any], prog: str) -> NacreError:
    places = [field for field, hint in _hints(kind) if _mark(hint) == POSITIONAL]
    place = name[2:] if name[2:] in places else other_word(name, places)
    if place is None:
        return unknown("option", name, flags(kind) - {"--help"}, f"see '{prog} --help'.")
    return NacreError(f"unknown option '{shown(name)}'; write the {place} without a flag, see '{prog} --help'.")


def _hints(kind: type[Any]) -> list[tuple[str, Any]]:
    """Name and type of every field of a dataclass."""
    hints = typing.get_type_hints(kind, include_extras=True)
    return [(field.name, hints[field.name]) for field in dataclasses.fields(kind)]


def _mark(hint: Any) -> str | None:
    """What a field's type is annotated with: POSITIONAL, or a short flag."""
    return hint.__metadata__[0] if typing.get_origin(hint) is Annotated else None


def _for_tyro(kind: type[Parsed]) -> type[Parsed]:
    """The same dataclass in tyro's words: its marks on the fields that are positional or have a short flag."""
    import tyro

    defaults, fields = {field.name: field.default for field in dataclasses.fields(kind)}, []  # type: ignore[arg-type]
    for name, hint in _hints(kind):
        mark = _mark(hint)
        if mark is not None:
            marker = tyro.conf.Positional if mark == POSITIONAL else tyro.conf.arg(aliases=[mark])
            fields.append((name, Annotated[hint.__origin__, marker], dataclasses.field(default=defaults[name])))
    marked = dataclasses.make_dataclass(kind.__name__, fields, bases=(kind,), frozen=True)
    marked.__doc__ = kind.__doc__
    return marked


def _sentence(drawn: str) -> str:
    """What tyro says in a box (with or without line-drawing characters): its title and its advice left out."""
    lines = [re.sub(r"\x1b\[[0-9;]*m|[╭╮╰╯│─]", "", line).strip() for line in drawn.splitlines()]
    words = [line for line in lines if line.strip("-")][1:]
    advice = [i for i, line in enumerate(words) if line.startswith(("For full helptext", "Argument helptext"))]
    return " ".join(words[: min(advice, default=len(words))]).rstrip(".")


def flags(kind: type[Any]) -> set[str]:
    """The flags that a command dataclass understands, nested ones included."""
    names = {"--" + name.replace("_", "-") for name, _ in _flag_fields(kind)}
    return {"--help"} | names | {_mark(hint) or "--help" for _, hint in _flag_fields(kind)}


def switches(kind: type[Any]) -> set[str]:
    """Those of its flags that take no value."""
    names = {name.replace("_", "-") for name, hint in _flag_fields(kind) if hint is bool}
    return {"--help", "-h"} | {f"--{name}" for name in names} | {f"--no-{name}" for name in names}


def _flag_fields(kind: type[Any]) -> Iterator[tuple[str, Any]]:
    for name, hint in _hints(kind):
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from _flag_fields(hint)
        elif _mark(hint) != POSITIONAL:
            yield name, hint


def values_of_flags(kinds: Iterable[type[Any]]) -> dict[str, int | None]:
    """The flags of these command dataclasses that take not one value: how many, or None for all up to the next flag."""
    found: dict[str, int | None] = {}
    for kind in kinds:
        found |= {f"--{name.replace('_', '-')}": _num_values(hint) for name, hint in _flag_fields(kind)}
        found |= dict.fromkeys(switches(kind), 0)
    return {name: number for name, number in found.items() if number != 1}


def _num_values(hint: Any) -> int | None:
    if typing.get_origin(hint) is not tuple:
        return 1
    parts = typing.get_args(hint)
    numbers = [None if part is ... else _num_values(part) for part in parts]
    return None if None in numbers else sum(number for number in numbers if number is not None)


def positionals(args: Sequence[str], num_values: Mapping[str, int | None]) -> list[str]:
    """The arguments that are neither flags nor values of flags; `num_values`: of flags that take not one value."""
    found: list[str] = []
    rest = deque(args)
    while rest:
        arg = rest.popleft()
        if not _is_flag(arg):
            found.append(arg)
        elif "=" not in arg:
            number = num_values.get(arg.replace("_", "-"), 1)
            while rest and (not _is_flag(rest[0]) if number is None else number > 0):
                rest.popleft()
                number = None if number is None else number - 1
    return found


def _is_flag(arg: str) -> bool:
    return arg.startswith("-") and not re.match(r"-\.?\d", arg)


def value_of(name: str, args: Sequence[str]) -> str | None:
    """The value that follows a flag, in either form. Where the flag is given twice, the last counts."""
    found = None
    for arg, after in zip(args, [*args[1:], None], strict=True):
        flag, equals, value = arg.partition("=")
        if flag.replace("_", "-") == name:
            found = value if equals else after
    return found


def without(args: Sequence[str], with_value: set[str], alone: set[str]) -> list[str]:
    """The arguments but for these flags: those that have a value, in either form, and those that have none."""
    kept: list[str] = []
    rest = iter(args)
    for arg in rest:
        name, equals, _ = arg.partition("=")
        name = name.replace("_", "-")
        if name in with_value and not equals:
            next(rest, None)
        elif name not in with_value | alone:
            kept.append(arg)
    return kept


def parse_seeds(text: str) -> list[int]:
    """'0:8' as 0 to 7, '0,3,5' as these, '4' as this one."""
    span = re.fullmatch(r"(\d{1,10}):(\d{1,10})", text)
    seeds: Sequence[int] = []
    if span is not None:
        seeds = range(int(span[1]), int(span[2]))
    elif re.fullmatch(r"\d{1,10}(,\d{1,10})*", text):
        seeds = [int(number) for number in text.split(",")]
    if not 0 < len(seeds) <= MAX_SEEDS or len(set(seeds)) < len(seeds):
        raise NacreError(
            f"--seeds is '{shown(text)}'; write 0:8 for 0 to 7, or different numbers such as 0,3,5, at most "
            f"{MAX_SEEDS}."
        )
    return list(seeds)
