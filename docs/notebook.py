"""A page as a Jupyter notebook: its prose as text, its programs and command lines as cells to run."""

from __future__ import annotations

import re
from typing import Any

FENCE = re.compile(r"^```(\w*)\n(.*?)^```\n?", re.S | re.M)


def notebook(page: str) -> dict[str, Any]:
    """The notebook, of format 4.5, as JSON has it. Links lead to pages of the site."""
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
        "cells": [_cell(number, kind, text) for number, (kind, text) in enumerate(cells) if text],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }


def code_of(language: str, text: str) -> str | None:
    """What a cell runs: a program, or command lines of nacre; None for output and for what is not run in a notebook."""
    lines = text.strip().splitlines()
    if language == "python":
        file = re.fullmatch(r"# (\w+\.py)(, continued)?", lines[0])  # a program that the page has one save
        magic = [f"%%writefile {'-a ' if file[2] else ''}{file[1]}"] if file else []
        return "\n".join(magic + lines)
    if language in ("", "sh") and lines and all(line.startswith("nacre ") for line in lines):
        return "\n".join(f"!{line}" for line in lines)
    return None


def _cell(number: int, kind: str, text: str) -> dict[str, Any]:
    cell: dict[str, Any] = {"id": f"cell-{number}", "cell_type": kind, "metadata": {}, "source": text}
    return cell | ({"outputs": [], "execution_count": None} if kind == "code" else {})
