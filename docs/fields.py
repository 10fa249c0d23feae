"""Fields of classes with their docstrings, read from the source: settings, commands, and the public types."""

from __future__ import annotations

import ast
import functools
import inspect
import io
import sys
import tokenize
from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple


class Field(NamedTuple):
    """A field of a class, as its source has it."""

    name: str
    type: str
    default: str  # '' where it is required
    doc: str  # the string below it, or else the comment behind it; '' where there is neither


def fields(kind: type[Any]) -> dict[str, Field]:
    """Public fields by name, those of base classes first; what a class says of a field again is what counts."""
    found: dict[str, Field] = {}
    for base in reversed(kind.__mro__):
        if base.__module__.startswith("nacre."):
            for field in _own_fields(base):
                doc = field.doc or (found[field.name].doc if field.name in found else "")
                found[field.name] = field._replace(doc=doc)
    return found


def _own_fields(kind: type[Any]) -> Iterator[Field]:
    source, tree = _parsed(sys.modules[kind.__module__])
    body = next((node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == kind.__name__), [])
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.target.id[0] == "_":
            continue
        default = ast.unparse(node.value) if node.value else ""
        doc = _text(after) or _comments(source).get(node.end_lineno or 0, "")
        yield Field(node.target.id, ast.unparse(node.annotation), default, doc)


@functools.cache
def _parsed(module: ModuleType) -> tuple[str, ast.Module]:
    source = inspect.getsource(module)
    return source, ast.parse(source)


@functools.cache
def _comments(source: str) -> dict[int, str]:
    """Line -> the comment behind its code, with the comment lines that continue it."""
    found: dict[int, str] = {}
    last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            line, text = token.start[0], token.string.lstrip("# ")
            if token.line[: token.start[1]].strip():
                found[line] = text
                last = line
            elif last and line == last + 1 + found[last].count("\n"):
                found[last] += "\n" + text
    return found


def _text(node: ast.stmt | None) -> str:
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
        return inspect.cleandoc(node.value.value)
    return ""
