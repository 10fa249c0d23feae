"""What a family's own `rewards_under` and tasks beyond its range may do wrong is told in one sentence."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
from exported import untrained

from nacre.cli import main as cli
from nacre.deploy.chosen_tasks import chosen_tasks, tasks_beyond
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES
from nacre.families.point import PointRobot
from nacre.simulation.check import check_family


def point_that(**changes: Any) -> PointRobot:
    return type("Changed", (PointRobot,), {"name": "changed-point", **changes})()


def only_one(self: Any, transition: Any, was: Any, task: Any) -> Any:
    return PointRobot.rewards_under(self, transition, was, task)[0]


def of_one_step(self: Any, transition: Any, was: Any, task: Any) -> Any:
    return tuple(reward[0] for reward in PointRobot.rewards_under(self, transition, was, task))


def failing(self: Any, *_: Any) -> Any:
    raise KeyError("goals")


def test_rewards_of_other_tasks_as_they_should_be() -> None:
    assert check_family(point_that()).ok


@pytest.mark.parametrize(
    ("rewards", "line", "told"),
    [
        (only_one, "relabelling", "must give a pair (reward, training reward), each of shape (20,)"),
        (of_one_step, "relabelling", "must give a pair (reward, training reward), each of shape (20,)"),
        (failing, "exceptions", "rewards_under failed with KeyError: 'goals' (test_own_rewards_and_ranges.py, line"),
    ],
)
def test_wrong_rewards_of_other_tasks_break_a_line_of_the_contract(rewards: Any, line: str, told: str) -> None:
    (fault,) = check_family(point_that(rewards_under=rewards)).faults
    assert fault.line == line and told in str(fault.fault)


def test_the_command_tells_of_it_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FAMILIES, "changed-point", type(point_that(rewards_under=only_one)))
    assert cli.main(["check", "changed-point"]) == 2
    assert "rewards_under must give a pair" in capsys.readouterr().out


class Nowhere(PointRobot):
    """It does not know what lies beyond its range."""

    name: ClassVar[str] = "nowhere-point"

    def tasks_beyond(self, rng: np.random.Generator, distance: np.ndarray) -> Any:
        return {"goal": rng.normal(size=(len(distance), 3))}


class Failing(PointRobot):
    name: ClassVar[str] = "failing-point"

    def tasks_beyond(self, rng: np.random.Generator, distance: np.ndarray) -> Any:
        raise TypeError("no distance")


@pytest.mark.parametrize(
    ("family", "told"),
    [(Nowhere(), "gives goal as an array of shape (30, 3)"), (Failing(), "failed with TypeError: no distance")],
)
def test_wrong_tasks_beyond_the_range_are_told_of(family: PointRobot, told: str) -> None:
    tasks = untrained("pearl").tasks
    tasks = tasks._replace(test={"goal": np.zeros((30, 2))})
    with pytest.raises(NacreError) as refused:
        chosen_tasks(family, tasks, "ood")
    assert f"{family.name}'s sample_ood_tasks" in str(refused.value) and told in str(refused.value)
    with pytest.raises(NacreError, match=f"{family.name}'s tasks_beyond"):
        tasks_beyond(family, np.random.default_rng(0), np.zeros(30))
