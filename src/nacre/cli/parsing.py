"""Command lines as values: a command is a dataclass whose fields are its arguments."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import tyro

from nacre.errors import NacreError, unknown

MAX_SEEDS = 256
"""Runs that one program trains side by side, at most."""

Parsed = TypeVar("Parsed")


def parse(kind: type[Parsed], args: Sequence[str], prog: str) -> Parsed:
    """`args` as a value of this dataclass. Its help is printed on --help; what it refuses becomes one sentence."""
    known = _flags(kind)
    for arg in args:
        flag = arg.split("=")[0].replace("_", "-")
        if flag.startswith("--") and flag not in known and flag.replace("--no-", "--", 1) not in known:
            raise unknown("option", flag, known)
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            return tyro.cli(kind, args=list(args), prog=prog, config=(tyro.conf.OmitArgPrefixes,))
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise NacreError(f"{_sentence(heard.getvalue())}; see '{prog} --help'.") from None


def _sentence(drawn: str) -> str:
    """What tyro says in a box (with or without line-drawing characters): its title and its advice left out."""
    lines = [re.sub(r"\x1b\[[0-9;]*m|[╭╮╰╯│─]", "", line).strip() for line in drawn.splitlines()]
    words = [line for line in lines if line.strip("-")][1:]
    advice = [i for i, line in enumerate(words) if line.startswith(("For full helptext", "Argument helptext"))]
    return " ".join(words[: min(advice, default=len(words))]).rstrip(".")


def _flags(kind: type[Any]) -> set[str]:
    """The flags that a command dataclass understands, nested ones included."""
    found = {"--help"}
    for field in dataclasses.fields(kind):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            found |= _flags(field.type)
        else:
            found.add("--" + field.name.replace("_", "-"))
    return found


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
            f"--seeds is '{text}'; write 0:8 for 0 to 7, or different numbers such as 0,3,5, at most {MAX_SEEDS}."
        )
    return list(seeds)


def value_of(flag: str, args: Sequence[str]) -> str | None:
    """The value that follows a flag, in either form."""
    for arg, after in zip(args, [*args[1:], None], strict=True):
        if arg == flag:
            return after
        if arg.startswith(flag + "="):
            return arg.split("=", 1)[1]
    return None
