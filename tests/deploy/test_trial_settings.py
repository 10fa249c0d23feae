"""How a run is tested, and how that is changed: by the same names in Python and from the command line."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_trained_agent import Walk

import nacre
from nacre.algorithms.registry import ALGORITHMS
from nacre.cli import main as cli
from nacre.deploy.trained_agent import TrainedAgent
from nacre.presets.trials import AT_MOST, TrialSettings
from nacre.report import video


@pytest.fixture(scope="module")
def agent(smoke_run: Callable[[str], Path]) -> TrainedAgent:
    """An agent whose trials have 3 episodes, of which 1 explores."""
    return nacre.load(smoke_run("point-robot"))


def trials_of(method: str, family: str, preset: str = "paper", **fields: Any) -> TrialSettings:
    return TrialSettings.of(nacre.resolve(method, family, preset, **fields).settings)


def test_a_run_says_how_it_is_tested() -> None:
    assert trials_of("pearl", "cheetah-vel") == TrialSettings(episodes=3, exploration_episodes=2, repeats=1)
    assert trials_of("pearl", "sparse-point-robot", "fast").exploration_episodes == 5
    assert trials_of("promp", "cheetah-vel").exploration_episodes is None


def test_the_call_in_the_readme_is_a_trial_of_a_default_run() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert (
        "agent.adapt(my_robot, episodes=3)" in readme and 'nacre.train("pearl", "cheetah-vel", preset="fast"' in readme
    )
    assert trials_of("pearl", "cheetah-vel", "fast").changed(episodes=3).exploration_episodes == 2


@pytest.mark.parametrize("episodes", [1, 3, 5])
def test_a_trial_that_would_never_use_the_belief_is_refused_with_both_numbers(episodes: int) -> None:
    trials = trials_of("pearl", "sparse-point-robot", "fast")
    with pytest.raises(nacre.NacreError) as raised:
        trials.changed(episodes=episodes)
    for part in (f"episodes is {episodes}", "first 5", "--exploration-episodes N", "exploration_episodes=N"):
        assert part in str(raised.value)
    assert trials.changed(episodes=16).episodes == 16
    assert trials.changed(episodes=episodes, exploration_episodes=episodes - 1).exploration_episodes == episodes - 1


def test_it_is_refused_wherever_an_agent_is_tested(
    agent: TrainedAgent, tmp_path: Path, smoke_run: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    env, out = Walk(), tmp_path / "trial.gif"
    for refused in (
        lambda **options: agent.adapt(env, **options),
        lambda **options: agent.session(**options),
        lambda **options: agent.evaluate("test", **options),
        lambda **options: agent.meet("goal=0.5,0.5", **options),
        lambda **options: video.record(agent, "goal=0.5,0.5", out, **options),
    ):
        for options in ({"episodes": 1}, {"exploration_episodes": 3}):
            with pytest.raises(nacre.NacreError, match="never be used"):
                refused(**options)
    assert env.episodes == [] and not out.exists()
    run = str(smoke_run("point-robot"))
    for command in (["evaluate", run], ["adapt", run, "--task", "goal=0.5,0.5"]):
        assert cli.main([*command, "--episodes", "1"]) == 2
        assert "--exploration-episodes" in capsys.readouterr().err


def test_episodes_that_explore_draw_z_from_the_prior_and_the_others_from_the_belief(agent: TrainedAgent) -> None:
    """From the prior, z does not depend on what was seen; from the belief it does."""

    def z_after(reward: float, exploration_episodes: int | None) -> np.ndarray:
        session = agent.session(episodes=4, exploration_episodes=exploration_episodes)
        for _ in range(2):
            session.act([0.1, 0.1])
            session.observe([0.2, 0.1], reward)
            session.end_episode()
        return np.asarray(session.memory.z)

    assert np.array_equal(z_after(-1.0, 3), z_after(-2.0, 3))
    assert not np.array_equal(z_after(-1.0, None), z_after(-2.0, None))
    assert np.array_equal(z_after(-1.0, None), z_after(-1.0, 1)), "the run's own number changes nothing"


def test_the_command_line_and_python_take_the_same_names(
    agent: TrainedAgent, smoke_run: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(smoke_run("point-robot"))
    flags = ["--episodes", "2", "--exploration-episodes", "0", "--json"]
    assert cli.main(["evaluate", run, "--repeats", "2", *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    returns, _ = agent.evaluate(episodes=2, exploration_episodes=0, repeats=2)
    assert np.array_equal(told["returns"], returns) and told["exploration_episodes"] == 0
    assert cli.main(["adapt", run, "--task", "goal=0.5,0.5", *flags]) == 0
    told = json.loads(capsys.readouterr().out)
    trial = agent.meet("goal=0.5,0.5", episodes=2, exploration_episodes=0)
    assert [episode["episode_return"] for episode in told["episodes"]] == trial.returns


def test_a_session_continues_after_its_last_episode(agent: TrainedAgent) -> None:
    session = agent.session(episodes=2)
    for _ in range(4):
        session.act([0.0, 0.0])
        session.observe([0.1, 0.0], -1.0)
        session.end_episode()
    assert session.num_episodes == 4


@pytest.mark.parametrize("method", [name for name, one in ALGORITHMS.items() if name != "pearl" and not one.offline])
def test_a_method_without_exploration_episodes_is_asked_for_none(method: str) -> None:
    trials = trials_of(method, "point-robot", "smoke")
    assert trials.changed(episodes=1).episodes == 1
    with pytest.raises(nacre.NacreError, match="leave out --exploration-episodes"):
        trials.changed(exploration_episodes=1)


def test_an_agent_remembers_every_episode_of_the_trial_it_was_asked_for() -> None:
    """MAML and MAESN keep as many episodes as their settings say, or 50."""
    settings = nacre.resolve("maesn", "point-robot", "smoke").settings
    trials = TrialSettings.of(settings)
    assert trials.changed(episodes=80).applied_to(settings).num_evaluation_episodes == 80
    assert trials.applied_to(settings) is settings


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(TrialSettings) if field.type != "str" and field.compare]
)
@pytest.mark.parametrize("value", [-1, AT_MOST + 1, 10**29])
def test_numbers_that_no_trial_can_have_are_refused_by_their_flag(name: str, value: int) -> None:
    protocol = "offline-own-context" if name == "context_transitions" else None
    with pytest.raises(nacre.NacreError, match="--" + name.replace("_", "-")):
        trials_of("pearl", "point-robot").changed(**{name: value}, protocol=protocol)
