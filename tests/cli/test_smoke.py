"""The smoke preset of a family of every kind, a whole run through the command line: train, evaluate, adapt."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from documented import undocumented
from nacre.cli import main as cli
from nacre.families.catalog import FAMILIES
from nacre.families.family import Family, JaxFamily

Capture = pytest.CaptureFixture[str]

TRIALS = ("--episodes", "2", "--exploration-episodes", "1")


USUAL = ("point-robot", "cheetah-dir")
SLOW = ("point-wind", "hopper-params", "reacher-inversion")
"""In JAX and in MuJoCo; tasks that change rewards, actions or the model;
episodes that end early. The other families' numbers are held to the contract in tests/families."""


def kind(family: type[Family]) -> tuple[bool, bool]:
    """(stepped in JAX, episodes may end early)."""
    return issubclass(family, JaxFamily), family.can_terminate


def test_every_kind_of_family_has_a_whole_run() -> None:
    assert {kind(FAMILIES[name]) for name in USUAL + SLOW} == {kind(family) for family in FAMILIES.values()}


@pytest.fixture(params=[*USUAL, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def run(family: str, smoke_run: Callable[[str], Path]) -> Path:
    return smoke_run(family)


def test_a_smoke_run_leaves_everything_that_a_run_has(family: str, run: Path) -> None:
    assert {"config.json", "tasks.json", "metrics.csv", "eval.csv", "checkpoints"} <= {
        path.name for path in run.iterdir()
    }
    config = json.loads((run / "config.json").read_text())
    assert (config["algorithm"], config["family"], config["preset"]) == ("pearl", family, "smoke")
    assert {"nacre", "jax", "mujoco", "python"} <= set(config["versions"])
    assert not undocumented(run)


def test_a_smoke_run_evaluates_its_test_tasks_after_both_iterations(family: str, run: Path) -> None:
    settings = json.loads((run / "config.json").read_text())["settings"]
    with (run / "eval.csv").open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    trial = settings["num_test_tasks"] * settings["num_evaluation_repeats"] * settings["num_evaluation_episodes"]
    assert settings["iterations"] == 2
    assert [row["split"] for row in rows] == ["test"] * 2 * trial
    assert np.isfinite([float(row["return"]) for row in rows]).all()
    assert len({row["env_steps"] for row in rows}) == len({row["grad_steps"] for row in rows}) == 2


def test_a_smoke_runs_agent_is_evaluated(family: str, run: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert cli.main(["evaluate", str(run), *TRIALS, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert np.shape(result["returns"]) == (settings["num_evaluation_repeats"], settings["num_test_tasks"], 2)
    assert np.isfinite(result["returns"]).all()
    assert np.isclose(result["score"], np.array(result["returns"])[:, :, 1].mean())


def test_a_smoke_runs_agent_is_evaluated_out_of_distribution_where_its_range_has_an_outside(
    family: str, run: Path, capsys: Capture
) -> None:
    capsys.readouterr()
    status = cli.main(["evaluate", str(run), "--tasks", "ood", "--repeats", "1", "--json"])
    result, own = json.loads(capsys.readouterr().out), FAMILIES[family]()
    tasks = {name: np.array([task[name] for task in result["tasks"]]) for name in own.parameters}
    assert status == 0 and np.isfinite(result["returns"]).all()
    settings = json.loads((run / "config.json").read_text())["settings"]
    assert np.shape(result["returns"])[1] == len(result["tasks"]) == settings["num_test_tasks"]
    assert not own.in_range(tasks).any()


def test_a_smoke_runs_agent_adapts_to_a_task_that_it_never_saw(family: str, run: Path, capsys: Capture) -> None:
    tasks = FAMILIES[family]().sample_tasks(np.random.default_rng(99), 1)
    ((name, values),) = tasks.items()
    task = f"{name}={','.join(repr(float(x)) for x in np.ravel(values[0]))}"
    capsys.readouterr()
    assert cli.main(["adapt", str(run), "--task", task, *TRIALS, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert np.allclose(result["task"][name], values[0])
    assert np.isfinite([episode["episode_return"] for episode in result["episodes"]]).all()
