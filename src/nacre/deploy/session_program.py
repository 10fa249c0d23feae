"""session.py of a bundle: numpy_session.py and the modules that it is made of, as one program."""

from __future__ import annotations

import ast
from pathlib import Path
from types import ModuleType

from nacre.deploy import numpy_agents, numpy_bundle, numpy_detector, numpy_networks, numpy_session

PARTS = (numpy_networks, numpy_agents, numpy_detector, numpy_bundle)
"""What numpy_session.py imports of nacre, in an order in which nothing is used before it is there."""
RULE = "# " + "-" * 118


def text() -> str:
    """numpy_session.py with the text of its parts in the place of their imports: it needs NumPy, and no other file."""
    source = _source(numpy_session)
    statements = ast.parse(source).body
    own = [node for node in statements if _is_of_nacre(node)]
    lines = source.splitlines()
    before, after = lines[: own[0].lineno - 1], lines[own[-1].end_lineno :]
    imported = {ast.unparse(node) for node in statements}
    sections = [line for part in PARTS for line in _section(_source(part), imported)]
    return "\n".join([*before, *sections, RULE, "# Sessions", "", *after]) + "\n"


def _source(module: ModuleType) -> str:
    return Path(str(module.__file__)).read_text()


def _is_of_nacre(node: ast.stmt) -> bool:
    return isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nacre.")


def _section(source: str, imported: set[str]) -> list[str]:
    """The lines of a part: its docstring as a comment, without the imports of nacre and of what is imported before."""
    tree = ast.parse(source)
    title = [f"# {line}".rstrip() for line in (ast.get_docstring(tree) or "").splitlines()]
    needless = [node for node in tree.body if _is_of_nacre(node) or ast.unparse(node) in imported]
    imported |= {ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)}
    left_out = {
        line for node in [tree.body[0], *needless] for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    kept = [line for number, line in enumerate(source.splitlines(), start=1) if number not in left_out]
    return [RULE, *title, "", *"\n".join(kept).strip("\n").splitlines(), "", ""]
