"""Stages the site's source: `python docs/stage.py FOLDER`. Pages of docs/, evidence and changelog, and the reference
pages that follow from the code. The Markdown in the repository reads right without it."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path

import notebook
import reference

ROOT = Path(__file__).parents[1]
GENERATED = {"commands": reference.commands, "settings": reference.settings, "api": reference.api}
NOTEBOOKS = ("first-run", "your-own-robot", "from-logged-data", "on-the-robot", "read-runs")
"""Pages that are also notebooks, to be downloaded."""
BESIDE = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
"""Pages at the top of the repository that belong to the site."""
IN_INDEX = "- [Command line](commands.md)\n- [Settings of every method](settings.md)\n- [Python API](api.md)"


def stage(folder: Path) -> None:
    """Writes the site's source into a new folder, pages of docs/ at its top."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs" / "images", folder / "images")
    shutil.copytree(
        ROOT / "benchmarks", folder / "benchmarks", ignore=shutil.ignore_patterns("*.py", "*.sh", "__pycache__")
    )
    pages = {page.name: page.read_text() for page in [*ROOT.glob("docs/*.md"), *map(ROOT.joinpath, BESIDE)]}
    pages["index.md"] = with_toctrees(re.sub(r"^- Command line, .*$", IN_INDEX, pages["index.md"], flags=re.M))
    (folder / "notebooks").mkdir()
    for name in NOTEBOOKS:
        file = Path("notebooks") / f"{name}.ipynb"
        outputs = kept_outputs(name)
        (folder / file).write_text(json.dumps(notebook.notebook(pages[f"{name}.md"], outputs), indent=1))
        heading, rest = notebook.with_outputs(pages[f"{name}.md"], outputs).split("\n", 1)
        pages[f"{name}.md"] = f"{heading}\n\n{{download}}`This page as a notebook <{file}>`\n{rest}"
    for name, text in pages.items():
        (folder / name).write_text(moved(text))
    for page in folder.glob("benchmarks/**/*.md"):
        page.write_text(page.read_text().replace("../docs/", "../"))
    with (folder / "benchmarks" / "README.md").open("a") as evidence:
        evidence.write("\n```{toctree}\n:hidden:\n:glob:\n\nreports/*\n```\n")
    for name, page_of in GENERATED.items():
        (folder / f"{name}.md").write_text(page_of())


def kept_outputs(page: str) -> notebook.Outputs:
    """What the page's cells put out when docs/execute.py ran them last; nothing for a page that was not run."""
    file = ROOT / "docs" / "outputs" / f"{page}.json"
    cells = json.loads(file.read_text())["cells"] if file.exists() else []
    return {cell["source"]: cell["outputs"] for cell in cells}


def moved(text: str) -> str:
    """A page whose links are seen from the top of the site."""
    text = text.replace("](docs/", "](").replace("](../benchmarks/", "](benchmarks/")
    for name in BESIDE:
        text = text.replace(f"](../{name}", f"]({name}")
    text = text.replace("](benchmarks/results/)", "](benchmarks/README.md)")
    text = text.replace("](../README.md#results)", "](results.md)").replace("](../README.md)", "](index.md)")
    return re.sub(
        r"\[([^\]]*)\]\((?:\.\./|examples/|SECURITY|CONTRIBUTING)[^)]*\)", r"\1", text
    )  # the site has pages only


def with_toctrees(index: str) -> str:
    """The index with a hidden table of contents for each of its parts, of the pages that the part lists."""
    trees = []
    for part in index.split("\n## ")[1:]:
        pages = [moved(f"]({page})")[2:-1] for page in re.findall(r"^- .*?\]\(([^)#]+\.md)\)", part, re.M)]
        trees.append("\n".join(["```{toctree}", ":hidden:", f":caption: {part.splitlines()[0]}", "", *pages, "```"]))
    return "\n\n".join([index.rstrip(), *trees]) + "\n"


if __name__ == "__main__":
    stage(Path(sys.argv[1]))
