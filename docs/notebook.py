"""A page as a Jupyter notebook: its prose as text, its programs and command lines as cells to run."""

from __future__ import annotations

import re
from typing import Any

FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n?", re.S | re.M)
RUNNABLE = re.compile(r"(?:\w+=\S+ )?(?:nacre|python) ")
"""How a command line begins that a notebook runs."""
TAKEN_BACK = re.compile(r"(?:\x1b\[\?25h)?\r?\x1b\[1A\x1b\[2K")
"""What a terminal erases the line above by."""
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
"""Colours and movements of a terminal's cursor."""
Outputs = dict[str, list[dict[str, Any]]]
"""What cells put out when they were run, by their source."""


def notebook(page: str, outputs: Outputs | None = None) -> dict[str, Any]:
    """The notebook, of format 4.5, as JSON has it. Links lead to pages of the site.

    A cell has the outputs that were kept of exactly its source, or none.
    """
    cells, end = [], 0
    for fence in FENCE.finditer(page):
        code = code_of(fence[1], fence[2])
        if code is None:
            continue
        cells.append(("markdown", page[end : fence.start()].strip()))
        cells.append(("code", code))
        end = fence.end()
    cells.append(("markdown", page[end:].strip()))
    return {
        "cells": [_cell(number, kind, text, outputs or {}) for number, (kind, text) in enumerate(cells) if text],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def code_of(language: str, text: str) -> str | None:
    """What a cell runs: a program, or command lines; None for output and for what is not run in a notebook."""
    lines = text.strip().splitlines()
    if language == "python":
        file = re.fullmatch(r"# (\w+\.py)(, continued)?", lines[0])  # a program that the page has one save
        magic = [f"%%writefile {'-a ' if file[2] else ''}{file[1]}"] if file else []
        return "\n".join(magic + lines)
    if language in ("", "sh") and lines and all(RUNNABLE.match(line) for line in lines):
        return "\n".join(f"!{line}" for line in lines)
    return None


def with_outputs(page: str, outputs: Outputs) -> str:
    """The page, with what a block of code printed below it, unless the page's next block shows that already."""
    parts, end = [], 0
    for fence in FENCE.finditer(page):
        following = FENCE.search(page, fence.end())
        code = code_of(fence[1], fence[2])
        text = printed(outputs.get(code, [])) if code and not code.startswith("%%") else ""
        parts.append(page[end : fence.end()])
        if text and not (following and following[1] == "text"):
            parts.append(f"\n```text\n{text}\n```\n")
        end = fence.end()
    return "".join([*parts, page[end:]])


def printed(outputs: list[dict[str, Any]], most: int = 24) -> str:
    """Text among outputs, at most so many lines: what is left out of the middle is an ellipsis."""
    texts = [output["text"] if "text" in output else output["data"].get("text/plain", "") for output in outputs]
    lines = "".join(texts).strip("\n").splitlines()
    if len(lines) > most:
        lines = [*lines[: most // 2], "...", *lines[-most // 2 :]]
    return "\n".join(lines)


def as_shown(text: str) -> str:
    """What remains of a text on a terminal: a line is written anew after a carriage return, and a bar is taken back."""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").split("\n"):
        erased = TAKEN_BACK.match(line)
        if erased and lines:
            lines.pop()
        lines.append(line[erased.end() :] if erased else line)
    shown = ESCAPE.sub("", "\n".join(lines)).split("\n")
    return "\n".join(line.rstrip("\r").rsplit("\r", 1)[-1].rstrip() for line in shown)


def _cell(number: int, kind: str, text: str, outputs: Outputs) -> dict[str, Any]:
    cell: dict[str, Any] = {"id": f"cell-{number}", "cell_type": kind, "metadata": {}, "source": text}
    return cell | ({"outputs": outputs.get(text, []), "execution_count": None} if kind == "code" else {})
