"""README and docs: links and anchors lead somewhere, and every page is in the index."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import nacre
from nacre.algorithms.registry import ALGORITHMS
from nacre.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("benchmarks/**/*.md")),
]


def prose(page: Path) -> str:
    """A page without its code."""
    return prose_of(page.read_text())


def prose_of(text: str) -> str:
    """A text without its code."""
    return re.sub(r"^```.*?^```|`[^`\n]*`", "", text, flags=re.S | re.M)


def links(page: Path) -> list[str]:
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)) if "://" not in target]


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_what_random_actions_earn_is_what_was_recorded() -> None:
    with (ROOT / "tests" / "families" / "random_returns.csv").open() as handle:
        recorded = {row["family"]: float(row["episode"]) for row in csv.DictReader(handle)}
    section = (ROOT / "docs" / "families.md").read_text().split("## What random actions earn")[1].split("## ")[0]
    told = dict(re.findall(r"\| `([\w-]+)` \| (-?[\d.]+) (?=\|)", section))
    ml1, ml10 = re.findall(r"\| `ml1`, `ml10` \| ([\d.]+), ([\d.]+) \|", section)[0]
    told |= {"ml1": ml1, "ml10": ml10}
    assert set(told) == set(recorded)
    for family, text in told.items():
        assert float(text) == round(recorded[family], len(text.partition(".")[2])), family


def test_every_page_is_in_the_index() -> None:
    index = ROOT / "docs" / "index.md"
    listed = {link.partition("#")[0] for link in links(index) if "/" not in link}
    assert {page.name for page in ROOT.glob("docs/*.md")} - {"index.md"} == listed


MEASURED = re.compile(r"\b(score|returns?|seconds|minutes|ms)\b")
KEPT = re.compile(r"benchmarks/(results/|reports/|README)|\.\./results/")


def without_evidence(text: str) -> list[str]:
    """The first rows of tables of measured numbers in whose part of the page no kept table or report is named."""
    found = []
    for part in re.split(r"^(?=##? )", prose_of(text), flags=re.M):
        for head, rows in re.findall(r"^(\|.*\|)\n\|[-| :]+\|\n((?:\|.*\|\n?)+)", part, re.M):
            numbers = re.findall(r"\|\s*\**-?[\d.]+", rows)
            if MEASURED.search(head.lower()) and len(numbers) >= 3 and not KEPT.search(part):
                found.append(head)
    return found


def test_a_table_without_evidence_is_found() -> None:
    table = "| method | score |\n|---|---|\n| a | 1.0 |\n| b | -2 |\n| c | 3 |\n"
    assert without_evidence(f"# Page\n\n{table}") == ["| method | score |"]
    assert without_evidence(f"# Page\n\n[table](../benchmarks/results/a.csv)\n\n{table}") == []
    assert without_evidence(table.replace("score", "radius")) == []


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_table_of_measured_numbers_names_where_they_are_kept(page: Path) -> None:
    if page.parent.name != "benchmarks":  # which is the list of the kept tables itself
        assert without_evidence(page.read_text()) == []


def test_every_score_of_the_results_is_that_of_the_json_trials_that_its_row_names() -> None:
    checked, column = 0, 0
    for row in (ROOT / "docs" / "results.md").read_text().splitlines():
        cells = [cell.strip() for cell in row.split("|")]
        column = cells.index("score") if "score" in cells else column
        if len(cells) <= column:
            continue
        told = {float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", cells[column])}
        for name in re.findall(r"benchmarks/results/([^)]*\.json)", row):
            trials = json.loads((ROOT / "benchmarks" / "results" / name).read_text())["returns"]
            score = sum(trial[-1] for repeat in trials for trial in repeat) / sum(map(len, trials))
            assert {round(score), round(score, 1)} & told, f"{name} has {score:.1f}"
            checked += 1
    assert checked > 60


@pytest.fixture(scope="module")
def reference() -> Iterator[ModuleType]:
    """docs/reference.py, which writes the pages that follow from the code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "docs"))
        yield importlib.import_module("reference")
    for name in ("reference", "fields"):
        sys.modules.pop(name, None)


def test_the_reference_has_every_command_method_and_public_name(reference: ModuleType) -> None:
    assert {f"## nacre {name}" for name in COMMANDS} <= set(reference.commands().splitlines())
    assert {f"## {name}" for name in ALGORITHMS} <= set(reference.settings().splitlines())
    assert {f"### nacre.{name}" for name in nacre.__all__} <= set(reference.api().splitlines())


def test_the_reference_says_what_every_flag_and_setting_means(reference: ModuleType) -> None:
    rows = (reference.commands() + reference.settings()).splitlines()
    assert [row for row in rows if row.startswith("| `") and row.endswith("|  |")] == []
    assert "| `num_train_tasks` | `100` | Tasks to meta-train on. |" in rows
    assert "| `-o, --out PATH` | `policy` | Folder to write. |" in rows


GLOSSARY = ROOT / "docs" / "glossary.md"
ALLOWED: set[tuple[str, str]] = set()
"""(page, word) where the word means something else."""


def unwanted(text: str) -> set[str]:
    """Words of a text that the glossary's last table advises against, in the singular or the plural."""
    rows = [row.split("|")[1] for row in GLOSSARY.read_text().split("| not | but |")[1].splitlines()[2:]]
    words = [word.strip() for row in rows for word in row.split(",")]
    flat = re.sub(r"\s+", " ", text.lower())
    return {word for word in words if re.search(rf"\b{word}s?\b", flat)}


def test_unwanted_words_are_found() -> None:
    assert unwanted("Two\nprocessors, of\ncourse, and a step size") == {"processor", "of course", "step size"}
    assert unwanted("A core processes what is adjusted.") == set()


@pytest.mark.parametrize("page", [page for page in PAGES if "reports" not in page.parts], ids=lambda page: page.name)
def test_pages_use_the_words_of_the_glossary(page: Path) -> None:
    text = prose(page).split("## Words that nacre does not use")[0]
    assert {(page.name, word) for word in unwanted(text)} <= ALLOWED


@pytest.mark.parametrize("part", ["commands", "settings", "api"])
def test_help_texts_use_the_words_of_the_glossary(reference: ModuleType, part: str) -> None:
    assert unwanted(getattr(reference, part)()) == set()


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 120


@pytest.mark.skipif(not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), reason="no Chromium")
def test_what_is_wrong_with_a_page_of_the_site_is_found_by_a_browser(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    browse = importlib.import_module("browse")
    sys.modules.pop("browse", None)
    head, faint = "<!doctype html><meta name=viewport content='width=device-width'>", "color: #999"
    (tmp_path / "good.html").write_text(f"{head}<p>words</p>")
    (tmp_path / "bad.html").write_text(
        f"{head}<p style='{faint}'>words</p><div style='width: 800px'>wide</div><script>console.error('oh')</script>"
    )
    console, seen = browse.browse(tmp_path, ["bad.html", "good.html"])
    found = browse.complaints(console, seen)
    assert len(found) == len(console) + 1 + 2 and any("oh" in line for line in console)
    assert "bad.html is 8" in found[len(set(console))] and "window of 420" in found[len(set(console))]
    assert all("bad.html: contrast of 2.8" in line for line in found[-2:])
    assert [one.contrast for one in seen if one.page == "good.html"] == [21.0, 21.0]
