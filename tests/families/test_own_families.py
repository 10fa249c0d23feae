"""The families of docs/add-a-family.md, as they stand there: saved, registered, held to the contract, trained."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import test_families

import nacre
from nacre.cli import main as cli
from nacre.families.catalog import FAMILIES
from nacre.families.family import Family, JaxFamily, MujocoFamily, Physics
from nacre.families.gymnasium import GymnasiumFamily
from nacre.types import Episode, Tasks

PAGE = (Path(__file__).parents[2] / "docs" / "add-a-family.md").read_text()
SECTIONS = PAGE.split("\n## ")[1:4]
CODE = [section.split("```python\n")[1].split("```")[0] for section in SECTIONS]
COMMANDS = [
    [line.split()[1:] for line in re.search(r"```\n(nacre .*?)```", section, re.S)[1].replace("\\\n", " ").splitlines()]
    for section in SECTIONS
]
MODULES = [commands[0][commands[0].index("--plugin") + 1] for commands in COMMANDS]
NAMES = [commands[0][2] for commands in COMMANDS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the modules of the page lie, on the import path; afterwards nothing of them is known any more."""
    path, before = tmp_path_factory.mktemp("own"), dict(FAMILIES)
    for module, code in zip(MODULES, CODE, strict=True):
        (path / f"{module}.py").write_text(code)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path))
        yield path
    FAMILIES.clear()
    FAMILIES.update(before)
    for module in MODULES:
        sys.modules.pop(module, None)


@pytest.fixture(scope="module", params=range(len(NAMES)), ids=NAMES)
def family(request: pytest.FixtureRequest, folder: Path) -> Family:
    __import__(MODULES[request.param])
    return nacre.make_family(NAMES[request.param])


@pytest.fixture(scope="module")
def tasks(family: Family) -> Tasks:
    return family.sample_tasks(np.random.default_rng(0), test_families.LANES)


@pytest.fixture(scope="module")
def played(family: Family, tasks: Tasks) -> Episode:
    return test_families.play(family, tasks)


def contract() -> list[Callable[..., None]]:
    """The tests of test_families.py that hold for every family: those that ask for one and for nothing else."""
    found = []
    for name, test in vars(test_families).items():
        asked = set(inspect.signature(test).parameters) if name.startswith("test_") else set()
        if asked and asked <= {"family", "tasks", "played"}:
            found.append(test)
    return found


@pytest.mark.parametrize("clause", contract(), ids=lambda test: test.__name__.removeprefix("test_"))
def test_a_family_of_the_page_satisfies_the_contract(clause: Callable[..., None], family: Family, request: Any):
    if isinstance(family, GymnasiumFamily) and "one_of_the_simulators" in clause.__name__:
        pytest.skip("a clause for nacre's own, which are of the other two kinds")
    clause(**{name: request.getfixturevalue(name) for name in inspect.signature(clause).parameters})


def test_the_contract_is_found():
    assert len(contract()) >= 14


def test_the_three_ways_are_on_the_page_and_short(folder: Path):
    kinds = GymnasiumFamily, MujocoFamily, JaxFamily
    for module, name, kind, code in zip(MODULES, NAMES, kinds, CODE, strict=True):
        assert f"`{module}.py`" in PAGE
        __import__(module)
        assert issubclass(FAMILIES[name], kind)
        written = [line for line in code.splitlines() if line.strip()]
        assert 20 <= len(written) <= 35 and max(map(len, written)) <= 120
    assert len(CODE[0].splitlines()) == 30 and "Thirty lines" in SECTIONS[0]


SCALE = {"--preset": "smoke", "--num-train-tasks": "4", "--num-test-tasks": "3"}
"""What is changed in a printed command: the preset and the numbers of tasks."""
IN_TURN = [
    pytest.param(number, id=name, marks=[] if name == "turned-point" else pytest.mark.slow)
    for number, name in enumerate(NAMES)
]
"""The family in JAX by default: test_gymnasium_family.py and test_own_robots.py train the two other kinds."""


@pytest.mark.parametrize("number", IN_TURN)
def test_the_printed_commands_train_evaluate_and_adapt(
    number: int, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
):
    """As printed but for the scale. The modules are found in the working directory, and imported anew."""
    for module, name in zip(MODULES, NAMES, strict=True):
        monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.delitem(FAMILIES, name, raising=False)
    (tmp_path / f"{MODULES[number]}.py").write_text(CODE[number])
    monkeypatch.chdir(tmp_path)
    train, *others = COMMANDS[number]
    assert train[train.index("--preset") + 1] == "fast"
    scaled = [SCALE.get(before, word) for before, word in zip(["", *train], train, strict=False)]
    assert cli.main(scaled) == 0
    run = tmp_path / "runs" / NAMES[number] / "pearl" / "seed-0"
    assert (run / "eval.csv").exists()
    returns, _ = nacre.load(run).evaluate()
    assert returns.shape == (1, 3, 3) and np.isfinite(returns).all()
    capsys.readouterr()
    for command in others:
        assert cli.main(command) == 0
        (parameter,) = nacre.make_family(NAMES[number]).parameters
        told = command[command.index("--task") + 1] if "--task" in command else f"{parameter}="
        assert told in capsys.readouterr().out


def test_fast_and_paper_are_as_the_page_says_for_any_family(folder: Path):
    for module in MODULES:
        __import__(module)
    fast, paper = (nacre.resolve("pearl", NAMES[0], preset).settings for preset in ("fast", "paper"))
    assert (fast.iterations, fast.num_train_steps_per_iteration, fast.hidden_dim) == (40, 500, 64)
    assert "40 iterations of 500 updates and 64 units" in SECTIONS[0]
    assert (paper.iterations, paper.num_train_steps_per_iteration) == (500, 2000)
    assert (fast.num_train_tasks, fast.num_test_tasks) == (100, 30)
    assert fast.use_next_obs_in_context and paper.use_next_obs_in_context
    assert nacre.resolve("pearl", NAMES[0]).settings == paper
    two_episodes = ("num_initial_episodes", "num_prior_episodes", "num_extra_rl_episodes")
    assert {getattr(fast, field) for field in two_episodes} == {2}
    assert "collections of two episodes" in SECTIONS[0]


def test_every_hook_of_a_kind_has_a_row_of_the_page():
    everyone, *kinds = Family, GymnasiumFamily, MujocoFamily, JaxFamily
    for section, kind in zip([PAGE.split("\n## ")[4], *SECTIONS], [everyone, *kinds], strict=True):
        hooks = {name for name in [*vars(kind), *kind.__annotations__] if not name.startswith("_")}
        hooks -= {"parse_task", "check_tasks", "checked_env", "task_dim", "can_relabel"}  # what follows from the others
        missing = {name for name in hooks if not re.search(rf"\b{name}\b", section)}
        assert not missing, f"{kind.__name__}: {missing}"


# ----------------------------------------------------------------------------------------------------------------------
# Rewards by hand


def test_the_hopper_is_paid_for_the_wanted_speed_and_falls(folder: Path):
    __import__("hopping")
    family = nacre.make_family("hopper-vel")
    before, after = (Physics(np.zeros((3, 6)), np.zeros((3, 6))) for _ in range(2))
    after.qpos[:, 0], after.qpos[:, 1] = [0.004, 0.0, -0.008], [1.25, 0.6, 1.25]  # 0.5, 0, -1 m/s
    after.qpos[2, 2] = 0.3
    reward, training = family.rewards(before, after, np.full((3, 3), 0.5), {"velocity": np.array([0.5, 1.0, 0.0])})
    np.testing.assert_allclose(reward, np.array([2.0, 1.0, 1.0]) - 0.00075)
    np.testing.assert_array_equal(training, reward)
    assert family.terminated(after).tolist() == [False, True, True]


def test_the_point_moves_along_turned_axes_and_is_paid_minus_its_distance(folder: Path):
    __import__("turned")
    family = nacre.make_family("turned-point")
    step = family.step(jnp.array([0.3, 0.2]), jnp.array([1.0, 0.5]), {"angle": np.pi / 2})
    np.testing.assert_allclose(step.obs, [0.25, 0.3], atol=1e-6)
    np.testing.assert_allclose(step.reward, -np.hypot(0.25, 0.3), rtol=1e-5)
    state, obs = family.reset(jax.random.key(0))
    np.testing.assert_array_equal(state, obs)
