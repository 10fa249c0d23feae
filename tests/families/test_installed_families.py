"""Families that an installed package offers: known wherever families are listed, and loaded when they are needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import nacre
from command_line import Capture, json_output, output, refusal, run
from nacre.families import catalog
from nacre.families.catalog import FAMILIES
from nacre.runs.experiment import from_json, resolve, to_json

MODULE = """
from dataclasses import dataclass
from typing import ClassVar
from nacre.families.point import PointRobot

@dataclass(frozen=True)
class Offered(PointRobot):
    name: ClassVar[str] = "offered-point"
    horizon: ClassVar[int] = 7
    still: bool = False
    span: tuple[float, float] = (0.0, 1.0)
"""
ENTRY_POINTS = """[nacre.families]
offered-point = my_robots:Offered
broken-point = my_robots:Missing
no name for it = my_robots:Offered
[nacre.algorithms]
broken-method = my_robots:Missing
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package that is installed for a test: a family, and a family and a method that cannot be loaded."""
    site = tmp_path / "site"
    (site / "my_robots-1.0.dist-info").mkdir(parents=True)
    (site / "my_robots.py").write_text(MODULE)
    (site / "my_robots-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: my-robots\nVersion: 1.0\n")
    (site / "my_robots-1.0.dist-info" / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(site)
    before = dict(FAMILIES)
    yield site
    sys.modules.pop("my_robots", None)
    FAMILIES.clear()
    FAMILIES.update(before)


def test_they_are_listed_and_proposed_and_what_cannot_be_loaded_is_told(package: Path, capsys: Capture) -> None:
    listed = json_output(capsys, "list", "--json")
    assert "offered-point" in listed["families"] and "broken-point" not in listed["families"]
    assert "broken-method" not in listed["algorithms"] and "pearl" in listed["algorithms"]
    output(capsys, "list")
    assert nacre.FAMILIES["offered-point"].horizon == 7
    assert "offered-point" in output(capsys, "list", "offered-point")
    FAMILIES.pop("offered-point")
    assert "did you mean 'offered-point'?" in refusal(capsys, "train", "pearl", "offered-pont")
    assert "did you mean 'offered-point'?" in refusal(capsys, "list", "offered-pont")
    assert "of the package my-robots cannot be loaded" in refusal(capsys, "list", "broken-point")
    assert "of the package my-robots cannot be loaded" in refusal(capsys, "check", "broken-point")


def test_a_list_tells_on_stderr_what_is_left_out(package: Path, capsys: Capture) -> None:
    assert run("list") == 0
    out, err = capsys.readouterr()
    assert "offered-point" in out
    assert err.count("nacre: left out: ") == 3 and "'broken-point' of the package my-robots cannot be loaded" in err


@pytest.mark.parametrize(
    "flags", [["--still"], ["--span", "-0.5", "2"], ["--no-still", "--span", "0", "1"]], ids=" ".join
)
def test_its_options_may_stand_before_its_name(flags: list[str], package: Path, capsys: Capture) -> None:
    assert "offered-point" not in FAMILIES
    assert "declarations" in output(capsys, "check", *flags, "offered-point")


def test_a_run_of_its_is_read_where_it_was_not_loaded_yet(package: Path) -> None:
    text = to_json(resolve("random", "offered-point", "smoke", still=True), {})
    FAMILIES.pop("offered-point")
    family = from_json(text).family
    assert family.name == "offered-point" and family.still  # type: ignore[attr-defined]
    assert catalog.is_known("broken-point") and not catalog.is_known("other")


def test_gymnasium_knows_them_and_nothing_loads_them_before_they_are_needed(package: Path) -> None:
    code = """
import json, sys
import gymnasium, nacre
from nacre.cli.main import main
lines = (["trian"], ["train", "pearl", "cheetah"], ["train", "--preset", "fast", "promp", "ant-goal", "--gamma", "1"])
assert [main(line) for line in lines] == [2, 2, 2] and "my_robots" not in sys.modules
envs = gymnasium.make_vec("nacre/OfferedPoint-v0", num_envs=2, vectorization_mode="vector_entry_point")
del gymnasium.registry["nacre/OfferedPoint-v0"]
nacre.FAMILIES.pop("offered-point")
nacre.families.catalog.register_environments()
told = []
for limit in ({}, {}, {"max_episode_steps": 3}):
    env, steps, over = gymnasium.make("nacre/OfferedPoint-v0", still=True, render_mode="rgb_array", **limit), 0, False
    env.reset(seed=0)
    while not over:
        *_, over, _ = env.step(env.action_space.sample())
        steps += 1
    told.append([steps, env.spec.max_episode_steps, env.unwrapped.family.still])
print(json.dumps(told))
"""
    place = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=os.environ | {"PYTHONPATH": place},
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == [[7, 7, True], [7, 7, True], [3, 3, True]]


def test_methods_that_are_proposed_are_those_that_can_be_loaded(package: Path, tmp_path: Path) -> None:
    run = nacre.train("random", "point-robot", preset="smoke", iterations=1, out=tmp_path / "run")
    with pytest.raises(nacre.NacreError, match="random cannot be fine-tuned online; take a run of one of: macaw"):
        nacre.fine_tune(run.path)
