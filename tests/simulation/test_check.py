"""A family held to its contract: each way to break it is found, named by its line, and refused before a run."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces, wrappers

import nacre
import swinging
from nacre.cli import main as cli
from nacre.families.blame import CONTRACT
from nacre.families.catalog import FAMILIES, register_family
from nacre.families.half_cheetah import CheetahVel
from nacre.families.point import PointRobot
from nacre.simulation.check import check_before_run, check_family
from swinging import Ball, Balls

DOCS = Path(__file__).parents[2] / "docs" / "add-a-family.md"


@pytest.fixture(autouse=True)
def only_nacres_own_afterwards() -> Iterator[None]:
    before = dict(FAMILIES)
    yield
    FAMILIES.clear()
    FAMILIES.update(before)


class Throws(Balls):
    """As the balls, but its episodes do not end: it is thrown back."""

    name: ClassVar[str] = "throws"
    horizon: ClassVar[int] = 10


def balls_that(**changes: Any) -> Balls:
    return type("Changed", (Throws,), changes)()


def envs(made: Any) -> dict[str, Any]:
    return {"make_env": lambda self, task, render_mode=None: made()}


class Seedless(Ball):
    """It draws its start from nobody's seed."""

    drawn: ClassVar[list[int]] = []

    def reset(self, **options: Any) -> Any:
        super().reset(**options)
        self.drawn.append(0)
        self.x = 0.01 * len(self.drawn)
        return self._obs(), {}


class Deaf(Ball):
    """It goes to a place of its own, whatever it is told."""

    def step(self, action: np.ndarray) -> Any:
        self.place = 0.0
        return super().step(action)


class Unpaid(Deaf):
    """And it pays nothing."""

    def step(self, action: np.ndarray) -> Any:
        obs, _, terminated, truncated, _ = super().step(action)
        return obs, 0.0, terminated, truncated, {}


class Ending(Ball):
    def step(self, action: np.ndarray) -> Any:
        obs, reward, _, truncated, info = super().step(action)
        return obs, reward, True, truncated, info


class Scalar(Ball):
    observation_space = spaces.Box(-9, 9, (2,))

    def _obs(self) -> Any:
        return np.float32(0.0)


class Boundless(Ball):
    action_space = spaces.Box(-np.inf, np.inf, (1,))


class NaN(Ball):
    def _obs(self) -> Any:
        return {"where": np.array([np.nan], np.float32), "speed": np.zeros(1, np.float32)}


class Leaves(Ball):
    def step(self, action: np.ndarray) -> Any:
        raise SystemExit(0)


def drawn(rng: np.random.Generator, num: int) -> np.ndarray:
    return rng.uniform(-1.0, 1.0, num)


def zeros(num: int) -> Any:
    return {"place": np.zeros(num)}


COUNTER = iter(range(10**6))
FAULTS: list[tuple[str, dict[str, Any], str]] = [
    ("declarations", {"obs_dim": 3}, "declares obs_dim 3"),
    ("declarations", {"obs_dim": 2.0}, "declares obs_dim as 2.0"),
    ("declarations", {"horizon": 0}, "horizon as 0"),
    ("declarations", {"parameters": {}}, "declares its parameters as {}"),
    ("tasks", {"sample_tasks": lambda self, rng, num: {"spot": drawn(rng, num)}}, "an array for each of place"),
    ("tasks", {"sample_tasks": lambda self, rng, num: {"place": drawn(rng, 2)}}, r"1 tasks need shape \(1,\)"),
    ("tasks", {"sample_tasks": lambda self, rng, num: {"place": drawn(rng, num)[:, None]}}, r"shape \(1, 1\)"),
    ("tasks", {"sample_tasks": lambda self, rng, num: {"place": np.full(num, np.nan)}}, "not finite"),
    ("tasks", {"sample_tasks": lambda self, rng, num: {"place": np.full(num, next(COUNTER))}}, "draw from `rng` alone"),
    ("exceptions", {"sample_tasks": lambda self, rng, num: exit(0)}, "sample_tasks failed with SystemExit: 0"),
    ("range", {"in_range": lambda self, task: task["place"] > 0}, "which its sample_tasks gave"),
    ("range", {"in_range": lambda self, task: True}, r"shape \(\) of bool for 32 tasks"),
    ("task sets", {"task_set": lambda self, seed, *nums: nacre.TaskSet(*map(zeros, nums), seed)}, "both train and"),
    ("text", {"parse_task": lambda self, text, **_: {"place": np.zeros(1)}}, "parse_task reads 'place="),
    ("exceptions", envs(Leaves), "step failed with SystemExit: 0"),
    ("shapes", envs(Scalar), r"observation 0.0 at a reset, which has shape \(\)"),
    ("finite numbers", envs(NaN), "nan.* at a reset, which is not finite"),
    ("actions", envs(Boundless), "without bounds"),
    ("ends", envs(Ending) | {"can_terminate": False}, "terminated at step 1, but"),
    ("ends", envs(lambda: wrappers.TimeLimit(Ball(), 3)), "at step 3 by a time limit"),
    ("seeds", envs(Seedless), "ignores its seed"),
    ("seeds", envs(lambda: wrappers.NormalizeObservation(Flat())), "wrapped in NormalizeObservation"),
    ("difference", {"set_task": lambda self, env, task: None}, "make no difference: .* see that set_task"),
    ("difference", envs(Deaf), "make no difference"),
    ("difference", envs(Unpaid), "make no difference"),
]  # fmt: skip


class Flat(Ball):
    observation_space = spaces.Box(-9, 9, (2,))

    def _obs(self) -> Any:
        return np.array([self.v, self.x], np.float32)


@pytest.mark.parametrize(("line", "changes", "words"), FAULTS, ids=[f"{line}-{words}" for line, _, words in FAULTS])
def test_each_fault_of_a_gymnasium_family_is_found_at_its_line(line: str, changes: dict[str, Any], words: str) -> None:
    report = check_family(balls_that(**changes))
    assert [fault.line for fault in report.faults] == [line] and not report.ok
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(report.faults[0].fault)
    number = CONTRACT.index(line) + 1
    assert report.faults[0].fault.endswith(f"(A family's contract, line {number}: {line}.)") or "failed with" in words


@pytest.mark.parametrize(
    "family",
    [swinging.Balls(), swinging.BallsByOptions(), swinging.BallsByArguments(), swinging.BallsInWorkers(), PointRobot()],
    ids=lambda family: family.name,
)
def test_a_right_family_has_every_line_of_the_contract_ok(family: Any) -> None:
    report = check_family(family)
    assert report.ok and [line.line for line in report.lines] == list(CONTRACT)
    assert all(line == (name, None, True) for line, name in zip(report.lines, CONTRACT, strict=True))


class TasklessPoint(PointRobot):
    """Its tasks change nothing."""

    name: ClassVar[str] = "taskless-point"

    def step(self, state, action, task):
        return super().step(state, action, {"goal": jnp.zeros(2)})


class EndingPoint(PointRobot):
    """It ends without saying so."""

    name: ClassVar[str] = "ending-point"

    def step(self, state, action, task):
        return super().step(state, action, task)._replace(terminated=jnp.array(True))


class TasklessCheetah(CheetahVel):
    """Its tasks change nothing."""

    name: ClassVar[str] = "taskless-cheetah"
    horizon: ClassVar[int] = 5

    def rewards(self, before, after, action, task):
        return super().rewards(before, after, action, {"velocity": np.zeros(1)})


class EndingCheetah(TasklessCheetah):
    """It ends without saying so."""

    name: ClassVar[str] = "ending-cheetah"

    def terminated(self, after):
        return np.ones(len(after.qpos), bool)


class LostPoint(PointRobot):
    """It starts nowhere."""

    name: ClassVar[str] = "lost-point"

    def reset(self, key):
        state, obs = super().reset(key)
        return state, obs * jnp.nan


class UnpaidPoint(PointRobot):
    """Its reward is no number."""

    name: ClassVar[str] = "unpaid-point"

    def step(self, state, action, task):
        return super().step(state, action, task)._replace(reward=jnp.array(jnp.nan))


class UnpaidCheetah(TasklessCheetah):
    """Its reward is no number."""

    name: ClassVar[str] = "unpaid-cheetah"

    def rewards(self, before, after, action, task):
        reward, training_reward = super().rewards(before, after, action, task)
        return reward * np.nan, training_reward


@pytest.mark.parametrize(
    ("family", "line"),
    [
        (TasklessPoint, "difference"),
        (EndingPoint, "ends"),
        (TasklessCheetah, "difference"),
        (EndingCheetah, "ends"),
        (LostPoint, "finite numbers"),
        (UnpaidPoint, "finite numbers"),
        (UnpaidCheetah, "finite numbers"),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_the_other_kinds_of_family_too_and_no_run_is_begun(family: Any, line: str, tmp_path: Path) -> None:
    assert [fault.line for fault in check_family(family()).faults] == [line]
    register_family(family)
    with pytest.raises(nacre.NacreError, match=rf"line \d+: {line}.*nacre check {family.name}"):
        nacre.train("pearl", family.name, preset="smoke", out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_seed_that_is_ignored_and_a_reward_never_found_are_told_but_not_refused(caplog: Any) -> None:
    for made, words in ((Seedless, "ignores its seed"), (Unpaid, "make no difference")):
        caplog.clear()
        check_before_run(balls_that(**envs(made)))
        assert len(caplog.messages) == 1 and words in caplog.messages[0]


def test_the_command_prints_a_line_each_and_exits_with_2_at_a_fault(capsys: Any) -> None:
    assert cli.main(["check", "sparse-point-robot", "--goal-radius", "0.5"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(maxsplit=1)[1].rsplit(maxsplit=1) for line in lines] == [[name, "ok"] for name in CONTRACT]
    register_family(TasklessPoint)
    assert cli.main(["check", "--json", "taskless-point"]) == 2
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["family"] == "taskless-point" and told["ok"] is False and told["lines"][-2]["fault"]
    assert not told["lines"][-1]["checked"]
    assert err == "nacre: taskless-point breaks its contract (difference); see docs/add-a-family.md.\n"
    for arguments in (["check"], ["check", "no-such"], ["check", "point-robot", "--goal-radius", "1"]):
        assert cli.main(arguments) == 2
    assert cli.main(["check", "--help"]) == 0


def test_the_contract_is_in_the_documents_line_by_line() -> None:
    text = DOCS.read_text()
    for number, line in enumerate(CONTRACT, start=1):
        assert f"\n{number}. **{line}**" in text


def test_a_family_is_checked_by_name_with_its_options() -> None:
    assert nacre.check_family("sparse-point-robot", goal_radius=0.8).ok
