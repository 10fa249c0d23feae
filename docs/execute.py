"""Runs notebooks of the site and keeps their outputs: `python docs/execute.py PAGE...`, in one new folder, in order.

The outputs are kept in docs/outputs/PAGE.json with the commit. `make docs` puts them into notebooks and pages.
`make outputs` runs the pages without long training; `make outputs PAGES="first-run your-own-robot"` runs others.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import nbformat
import notebook
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]


def execute(page: str, folder: str) -> list[dict[str, Any]]:
    """The code cells of a page, each with its source and outputs, run in a folder. The first failure ends it."""
    cells = notebook.notebook((ROOT / "docs" / f"{page}.md").read_text())
    sources = {cell["id"]: cell["source"] for cell in cells["cells"] if cell["cell_type"] == "code"}
    for cell in cells["cells"]:
        if cell["source"].startswith("!"):  # Jupyter continues after a command that failed
            cell["source"] = re.sub("$", "\nassert _exit_code == 0", cell["source"], flags=re.M)
    ran = NotebookClient(
        nbformat.from_dict(cells), timeout=None, resources={"metadata": {"path": folder}}
    ).execute()  # fmt: skip
    for cell in ran["cells"]:
        if cell["id"] in sources:
            took = cell["metadata"]["execution"]
            begin, end = (datetime.fromisoformat(took[name]) for name in ("iopub.execute_input", "shell.execute_reply"))
            print(f"{(end - begin).total_seconds():7.1f} s  {sources[cell['id']].splitlines()[0][:100]}", flush=True)
    return [
        {"source": sources[cell["id"]], "outputs": kept(cell["outputs"])}
        for cell in ran["cells"]
        if cell["id"] in sources
    ]


def kept(outputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Outputs without what only a terminal understands; neighbouring texts are one, as a reader sees them."""
    found: list[dict[str, Any]] = []
    for output in outputs:
        if "data" in output and "text/plain" in output["data"]:  # what rich prints, in colours that no page needs
            found.append(dict(output, data={"text/plain": notebook.as_shown(output["data"]["text/plain"])}))
        elif output["output_type"] != "stream":
            found.append(dict(output))
        elif found and found[-1].get("name") == output["name"]:
            found[-1]["text"] += output["text"]
        else:
            found.append({"output_type": "stream", "name": output["name"], "text": output["text"]})
    for output in found:
        if "text" in output:
            output["text"] = notebook.as_shown(output["text"])
    return found


def main(pages: list[str]) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MINARI_DATASETS_PATH"] = f"{folder}/data"  # data sets of the pages, and no others
        for page in pages:
            cells = execute(page, folder)
            text = json.dumps({"commit": commit.strip(), "cells": cells}, indent=1, ensure_ascii=False) + "\n"
            (ROOT / "docs" / "outputs").mkdir(exist_ok=True)
            (ROOT / "docs" / "outputs" / f"{page}.json").write_text(text.replace(folder, "."))


if __name__ == "__main__":
    main(sys.argv[1:])
