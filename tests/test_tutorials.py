"""The tutorials of docs/, as they stand there: their commands and programs are run. Training is shorter, or slow."""

from __future__ import annotations

import importlib
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import nacre
from command_line import run
from nacre.algorithms.registry import ALGORITHMS
from nacre.cli.main import COMMANDS
from nacre.cli.parsing import flags, switches
from nacre.families.catalog import FAMILIES, OPTIONAL
from nacre.runs.experiment import RunOptions

ROOT = Path(__file__).parents[1]
RUN = "runs/point-robot/pearl/seed-0"


def programs(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / page).read_text(), re.S | re.M)


def commands(text: str) -> list[list[str]]:
    """Command lines of nacre in a page's code, without their comments."""
    lines = re.findall(r"^(?: {4}|\.venv/bin/)?nacre ([a-z]+ .*)$", text, re.M)
    return [shlex.split(re.split(r" {2,}|  +#|\s#", line.replace("'", ""))[0]) for line in lines]


@pytest.fixture
def folder(smoke_run: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a reader who has trained the agent of the first tutorial."""
    shutil.copytree(smoke_run("point-robot"), tmp_path / RUN)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_and_the_program_of_the_first_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (train, evaluate, adapt, report) = commands((ROOT / "docs" / "first-run.md").read_text())[:4]
    assert train == ["train", "pearl", "point-robot", "--preset", "fast"] and report[:2] == ["report", RUN]
    assert run(*evaluate) == 0 and run(*adapt) == 0
    (code,) = programs("first-run.md")
    capsys.readouterr()
    exec(code, {})
    assert capsys.readouterr().out.startswith("(1, 3, ")  # [repeat, task, episode] of the smoke preset


def test_the_robot_of_the_tutorial_is_driven_by_the_exported_agent(folder: Path) -> None:
    (export,) = commands((ROOT / "docs" / "on-the-robot.md").read_text())
    assert run(*export) == 0
    (code,) = programs("on-the-robot.md")
    (folder / "drive.py").write_text(code)
    told = subprocess.run([sys.executable, "drive.py"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert [line.split(":")[0] for line in told.splitlines()] == ["episode 1", "episode 2", "episode 3"]
    assert (folder / "belief.npz").exists()


@pytest.fixture
def rail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory of a reader who has saved the programs of "a robot of your own"."""
    (tmp_path / "rail.py").write_text("\n\n".join(programs("your-own-robot.md")[:2]))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    FAMILIES.pop("cart-gain", None)
    sys.modules.pop("rail", None)


def test_a_robot_of_your_own_keeps_the_contract(rail: Path) -> None:
    (check, *_) = commands((ROOT / "docs" / "your-own-robot.md").read_text())
    assert run(*check) == 0


@pytest.mark.slow
def test_a_robot_of_your_own_is_trained_and_met(rail: Path) -> None:
    _, smoke, train, evaluate, adapt = commands((ROOT / "docs" / "your-own-robot.md").read_text())
    assert run(*smoke) == 0
    assert run(*["smoke" if word == "fast" else word for word in train]) == 0
    assert run(*evaluate) == 0 and run(*adapt) == 0
    exec(programs("your-own-robot.md")[2], {})


@pytest.mark.slow
def test_logged_data_become_a_policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    collect, *rest = commands((ROOT / "docs" / "from-logged-data.md").read_text())
    assert run(*collect[:-1], "2", "--num-steps", "400", "--checkpoints", "2") == 0
    for command in rest:
        assert run(*["smoke" if word == "fast" else word for word in command]) == 0, command


def test_reading_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for program in programs("read-runs.md"):
        exec(program, names)
    assert names["returns"].shape[0] == 1 and "pearl" in capsys.readouterr().out  # type: ignore[attr-defined]


def test_notebooks_have_the_programs_and_commands_of_their_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    notebook, stage = importlib.import_module("notebook"), importlib.import_module("stage")
    for name in stage.NOTEBOOKS:
        found = notebook.notebook((ROOT / "docs" / f"{name}.md").read_text())
        assert (found["nbformat"], found["nbformat_minor"]) == (4, 5)
        sources = [cell["source"] for cell in found["cells"] if cell["cell_type"] == "code"]
        written = [source.split("\n", 1)[-1] if source.startswith("%%") else source for source in sources]
        assert [source for source in written if source[0] != "!"] == [code.strip() for code in programs(f"{name}.md")]
        lines = [line for source in sources if source[0] == "!" for line in source.splitlines()]
        of_nacre = rf"nacre (?:{'|'.join(COMMANDS)}) "
        page = (ROOT / "docs" / f"{name}.md").read_text()
        named = re.findall(rf"^(?:{of_nacre}|(?:\w+=\w+ )?python ).*$", page, re.M)
        assert [line.removeprefix("!") for line in lines] == named
    first = notebook.notebook((ROOT / "docs" / "your-own-robot.md").read_text())["cells"]
    files = [cell["source"].splitlines()[0] for cell in first if cell["source"].startswith("%%")]
    assert files == ["%%writefile rail.py", "%%writefile -a rail.py"]
    for name in ("notebook", "stage", "reference", "fields"):
        sys.modules.pop(name, None)


def test_outputs_that_are_kept_are_of_the_pages_as_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    notebook = importlib.import_module("notebook")
    files = sorted(ROOT.glob("docs/outputs/*.json"))
    assert {file.stem for file in files} == set(importlib.import_module("stage").NOTEBOOKS)
    for name in ("stage", "reference", "fields"):
        sys.modules.pop(name, None)
    for file in files:
        kept = json.loads(file.read_text())
        outputs = {cell["source"]: cell["outputs"] for cell in kept["cells"]}
        page = (ROOT / "docs" / f"{file.stem}.md").read_text()
        cells = [cell for cell in notebook.notebook(page, outputs)["cells"] if cell["cell_type"] == "code"]
        assert [cell["source"] for cell in cells] == [cell["source"] for cell in kept["cells"]], "run 'make outputs'"
        assert all(cell["outputs"] for cell in cells), "every cell prints something"
        assert "/" + "tmp" not in file.read_text() and re.fullmatch(r"[0-9a-f]{7,}", kept["commit"])
    sys.modules.pop("notebook", None)


def test_an_output_stands_below_its_code_unless_the_page_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    notebook = importlib.import_module("notebook")
    outputs = {"print(1)": [{"output_type": "stream", "name": "stdout", "text": "1\n"}]}
    code, shown = "```python\nprint(1)\n```\n", "\n```text\n1\n```\n"
    assert notebook.with_outputs(f"{code}\nand so on\n", outputs) == f"{code}{shown}\nand so on\n"
    assert notebook.with_outputs(f"{code}\nYou see:\n{shown}", outputs) == f"{code}\nYou see:\n{shown}"
    assert notebook.with_outputs(code.replace("1", "2"), outputs) == code.replace("1", "2"), "another program"
    bar = "\r\x1b[2Kbar 1\r\x1b[2K\x1b[1mdone\x1b[0m\r\nbar 2\r\n\x1b[?25h\r\x1b[1A\x1b[2Kafter\r\n"
    assert notebook.as_shown(bar) == "done\nafter\n", "as a terminal shows a progress bar that has ended"
    sys.modules.pop("notebook", None)


PAGES = [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_of_the_docs_names_flags_that_exist(page: Path) -> None:
    of_a_run = {"--plugin", "--help"}.union(
        *(flags(kind) | switches(kind) for kind in [RunOptions, *FAMILIES.values()]),
        *(flags(method.settings) | switches(method.settings) for method in ALGORITHMS.values()),
    )
    for name, *arguments in commands(page.read_text()):
        assert name in COMMANDS, name
        if set(arguments) & {"->", *OPTIONAL}:  # an arrow of functions; families of an extra
            continue
        command = importlib.import_module(COMMANDS[name]).Command
        known = flags(command) | switches(command) | {"--plugin"}
        for word in arguments:
            flag = word.split("=")[0].replace("_", "-")
            if flag.startswith("-") and not re.match(r"-\d", flag):
                assert flag in known or (name in ("train", "check") and flag in of_a_run), (name, flag)


def test_the_five_lines_of_the_readme_name_what_exists() -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.S | re.M)
    assert len(code.splitlines()) == 5
    for name in re.findall(r"nacre\.(\w+)", code):
        assert name in nacre.__all__
    for name in re.findall(r"agent\.(\w+)", code):
        assert hasattr(nacre.TrainedAgent, name)
