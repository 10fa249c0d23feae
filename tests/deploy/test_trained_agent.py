"""A trained agent in other people's hands: any environment with the family's spaces, or one step at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest
from gymnasium import spaces
from walking import Walk

import nacre
from nacre.algorithms import pearl
from nacre.deploy.trial_reports import EpisodeReport
from nacre.simulation import rollout
from nacre.types import Transition

infer_posterior = jax.jit(pearl.infer_posterior, static_argnames="config")


class GymnasiumWalk(gymnasium.Env[np.ndarray, np.ndarray]):
    """The same as a subclass, for gymnasium.make and its wrappers."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = spaces.Box(-1.0, 1.0, (2,), np.float32)

    def __init__(self) -> None:
        self.walk = Walk()

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        return self.walk.reset(seed=seed)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        return self.walk.step(action)


def played_by_hand(agent: nacre.TrainedAgent, env: Any, episodes: int, seed: int) -> None:
    """What `adapt` does, written out with a session."""
    session = agent.session(seed)
    for index in range(episodes):
        obs, _ = env.reset(seed=seed if index == 0 else None)
        ended = False
        while not ended and len(env.episodes[-1]) < 20:
            obs, reward, terminated, truncated, _ = env.step(session.act(obs))
            session.observe(obs, reward, terminated=terminated)
            ended = terminated or truncated
        session.end_episode()


# ----------------------------------------------------------------------------------------------------------------------
# Loading


def test_a_run_is_loaded_from_its_path_as_text_or_as_a_path(smoke_run: Callable[[str], Path]) -> None:
    path = smoke_run("point-robot")
    for place in (path, str(path)):
        loaded = nacre.load(place)
        assert loaded.family.name == "point-robot"
        assert loaded.experiment == nacre.RunDirectory(path).experiment


def test_loading_twice_gives_agents_that_act_alike(smoke_run: Callable[[str], Path]) -> None:
    first, second = (nacre.load(smoke_run("point-robot")) for _ in range(2))
    assert np.array_equal(first.session(seed=4).act([0.1, 0.2]), second.session(seed=4).act([0.1, 0.2]))


# ----------------------------------------------------------------------------------------------------------------------
# Trials in the family's own simulator


def test_an_evaluation_gives_every_episodes_return_and_its_tasks(agent: nacre.TrainedAgent) -> None:
    returns, tasks = agent.evaluate("fresh:4", episodes=2, repeats=3, seed=1)
    assert returns.shape == (3, 4, 2)
    assert len(tasks) == 4 and all(len(task["goal"]) == 2 for task in tasks)
    assert np.isclose(nacre.score(returns), returns[:, :, 1].mean())


def test_tasks_out_of_distribution_are_as_many_as_the_test_tasks_and_stay_the_same(
    agent: nacre.TrainedAgent,
) -> None:
    returns, tasks = agent.evaluate("ood", seed=1)
    assert returns.shape == (1, 3, 3)
    assert tasks == agent.evaluate("ood", seed=2)[1]
    assert all(max(map(abs, task["goal"])) > 1 for task in tasks)


def test_evaluations_do_not_depend_on_what_the_agent_did_before(agent: nacre.TrainedAgent) -> None:
    first, _ = agent.evaluate(seed=2)
    agent.adapt(Walk(), episodes=2)
    agent.meet("goal=0.5,0.5", episodes=2)
    again, _ = agent.evaluate(seed=2)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, agent.evaluate(seed=3)[0])


def test_meeting_a_task_reports_it_with_every_episode(agent: nacre.TrainedAgent) -> None:
    trial = agent.meet("goal=0.4,-0.7", episodes=2)
    assert trial.task == {"goal": [0.4, -0.7]}
    assert [report.episode for report in trial.episodes] == [1, 2]
    assert trial.returns == [report.episode_return for report in trial.episodes]
    assert trial == agent.meet("goal=0.4,-0.7", episodes=2)


# ----------------------------------------------------------------------------------------------------------------------
# Trials in anybody's environment


def test_adapt_reports_the_returns_that_the_environment_gave(agent: nacre.TrainedAgent) -> None:
    env = Walk()
    trial = agent.adapt(env, episodes=4)
    assert trial.task == {}
    assert [report.episode for report in trial.episodes] == [1, 2, 3, 4]
    assert np.allclose(trial.returns, env.returns())
    assert [report.length for report in trial.episodes] == [20] * 4  # the family's horizon: this world never ends


def test_adapt_plays_as_many_episodes_as_the_run_was_configured_with(agent: nacre.TrainedAgent) -> None:
    assert len(agent.adapt(Walk()).episodes) == agent.experiment.settings.num_evaluation_episodes == 3


def test_the_reported_belief_is_the_posterior_of_all_transitions_so_far(agent: nacre.TrainedAgent) -> None:
    env = Walk()
    trial = agent.adapt(env, episodes=3)
    for index, report in enumerate(trial.episodes):
        seen = [step for episode in env.episodes[: index + 1] for step in episode]
        context = Transition(*(np.array(field, np.float32) for field in zip(*seen, strict=True)))
        belief = infer_posterior(agent.params.encoder, context, agent.experiment.settings)
        assert np.allclose(report.belief_mean, belief.mean, rtol=1e-3, atol=1e-6)
        assert np.allclose(np.square(report.belief_std), belief.variance, rtol=1e-3)


def test_the_environment_is_seeded_once_and_continues_from_there(agent: nacre.TrainedAgent) -> None:
    env, again, other = Walk(), Walk(), Walk()
    for world, seed in ((env, 5), (again, 5), (other, 6)):
        agent.adapt(world, episodes=2, seed=seed)
    assert env.seeds == [5, None]
    assert np.array_equal(env.actions(), again.actions())
    assert not np.array_equal(env.actions(), other.actions())


def test_actions_lie_in_the_action_space(agent: nacre.TrainedAgent) -> None:
    env = Walk()
    agent.adapt(env, episodes=2)
    assert env.actions().shape == (40, 2)
    assert (np.abs(env.actions()) <= 1.0).all()
    assert env.actions().dtype == np.float32


def test_one_step_at_a_time_is_the_same_trial(agent: nacre.TrainedAgent) -> None:
    env, by_hand = Walk(), Walk()
    agent.adapt(env, episodes=3, seed=11)
    played_by_hand(agent, by_hand, episodes=3, seed=11)
    assert np.array_equal(by_hand.actions(), env.actions())
    assert by_hand.returns() == env.returns()


@pytest.mark.parametrize(("ends", "discount"), [({"terminates_at": 7}, 0.0), ({"truncates_at": 7}, 1.0)])
def test_an_episode_ends_either_way_but_only_a_termination_ends_the_task(
    ends: dict[str, int], discount: float, agent: nacre.TrainedAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    discounts: list[float] = []
    steps = rollout.steps

    def listening(*given: Any) -> rollout.Steps:
        compiled = steps(*given)

        def observe(params: Any, memory: Any, transition: Transition, alive: Any) -> Any:
            discounts.append(float(transition.discount[0]))
            return compiled.observe(params, memory, transition, alive)

        return compiled._replace(observe=observe)

    monkeypatch.setattr(rollout, "steps", listening)
    trial = agent.adapt(Walk(**ends), episodes=2)
    assert [report.length for report in trial.episodes] == [7, 7]
    assert discounts == ([1.0] * 6 + [discount]) * 2


def test_an_environment_that_does_not_declare_its_spaces_is_taken_at_its_word(agent: nacre.TrainedAgent) -> None:
    env = Walk()
    env.observation_space = env.action_space = None
    assert len(agent.adapt(env, episodes=2).episodes) == 2


def test_a_registered_gymnasium_environment_with_its_wrappers_works(agent: nacre.TrainedAgent) -> None:
    name = "nacre-tests/Walk-v0"
    gymnasium.register(name, entry_point=GymnasiumWalk, max_episode_steps=15)
    try:
        env = gymnasium.make(name)
        trial = agent.adapt(env, episodes=2, seed=3)
    finally:
        del gymnasium.registry[name]
    assert [report.length for report in trial.episodes] == [15, 15]
    assert np.allclose(trial.returns, env.unwrapped.walk.returns())


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("observation_space", spaces.Box(-1, 1, (3,))),
        ("observation_space", spaces.Box(-1, 1, (1, 2))),
        ("observation_space", spaces.Discrete(2)),
        ("observation_space", spaces.Dict({"position": spaces.Box(-1, 1, (2,))})),
        ("action_space", spaces.Box(-1, 1, (3,))),
        ("action_space", spaces.Discrete(2)),
        ("action_space", spaces.MultiDiscrete([3, 3])),
        ("action_space", spaces.MultiBinary(2)),
        ("action_space", spaces.Box(-2, 2, (2,))),
        ("action_space", spaces.Box(0, 1, (2,))),
        ("action_space", spaces.Box(np.array([-1, -1], np.float32), np.array([1, 5], np.float32))),
    ],
    ids=str,
)
def test_other_spaces_are_refused_before_anything_is_played(name: str, space: Any, agent: nacre.TrainedAgent) -> None:
    env = Walk()
    setattr(env, name, space)
    with pytest.raises(nacre.NacreError) as raised:
        agent.adapt(env)
    assert "action" in str(raised.value) if name == "action_space" else "observation_space" in str(raised.value)
    assert env.episodes == []


@pytest.mark.parametrize("reward", [np.nan, np.inf, -np.inf, 1e39], ids=str)
def test_a_reward_that_is_not_finite_in_float32_is_refused_with_its_step(
    reward: float, agent: nacre.TrainedAgent
) -> None:
    class Broken(Walk):
        def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
            obs, good, terminated, truncated, info = super().step(action)
            return obs, reward if len(self.episodes[-1]) == 3 else good, terminated, truncated, info

    with pytest.raises(nacre.NacreError, match=r"reward at step 3 .* not finite"):
        agent.adapt(Broken())


@pytest.mark.parametrize(
    ("obs", "part"),
    [
        ([np.nan, 0.0], "not finite"),
        ([0.0, np.inf], "not finite"),
        ([0.0, 0.0, 0.0], "shape"),
        ([[0.0, 0.0]], "shape"),
        (0.0, "shape"),
        ({"position": [0.0, 0.0]}, "observation"),
        (None, "observation"),
    ],
    ids=str,
)
@pytest.mark.parametrize("when", ["reset", "step"])
def test_an_observation_that_is_none_of_the_familys_is_refused(
    obs: Any, part: str, when: str, agent: nacre.TrainedAgent
) -> None:
    class Broken(Walk):
        def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
            good, info = super().reset(**options)
            return obs if when == "reset" else good, info

        def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
            _, *rest = super().step(action)
            return obs, *rest

    with pytest.raises(nacre.NacreError, match=part):
        agent.adapt(Broken())


@pytest.mark.parametrize("options", [{"episodes": 0}, {"episodes": -1}, {"seed": -1}, {"seed": 2**64}], ids=str)
def test_a_trial_that_cannot_be_is_refused(options: dict[str, int], agent: nacre.TrainedAgent) -> None:
    with pytest.raises(nacre.NacreError, match=next(iter(options))):
        agent.adapt(Walk(), **options)


# ----------------------------------------------------------------------------------------------------------------------
# What is told


def test_agents_sessions_and_reports_say_what_they_are(agent: nacre.TrainedAgent) -> None:
    assert repr(agent) == (
        "TrainedAgent(pearl on point-robot, preset smoke, seed 0, checkpoint at update 20, trials of 3 episodes "
        "(1 explore))"
    )
    session = agent.session(episodes=2)
    session.act([0.0, 0.0])
    session.observe([0.1, 0.0], -1.0)
    session.end_episode()
    assert repr(session) == "Session(pearl on point-robot, episode 2 of 2, 1 steps so far)"
    episode = EpisodeReport(2, -3.14159, 20, [0.5, 1.0, 2.0, 3.0], [0.1] * 4, True, "terminated")
    assert repr(episode) == (
        "EpisodeReport(2: return -3.142 in 20 steps, ended by terminated, solved, belief 0.50±0.10 1.00±0.10 2.00±0.10 "
        "... (4))"
    )
    trial = nacre.TrialReport({"velocity": 1.3}, [episode._replace(episode_return=float(i)) for i in range(8)])
    assert repr(trial) == "TrialReport(task {'velocity': 1.3}, 8 episodes, returns 0, 1, ..., 6, 7)"


def test_an_episode_tells_what_ended_it(agent: nacre.TrainedAgent) -> None:
    for ends, expected in (({}, "horizon"), ({"terminates_at": 7}, "terminated"), ({"truncates_at": 7}, "truncated")):
        trial = agent.adapt(Walk(**ends), episodes=2)
        assert [report.ended_by for report in trial.episodes] == [expected] * 2
    assert [report.ended_by for report in agent.meet("goal=0.5,0.5").episodes] == ["horizon"] * 3


def test_a_time_limit_beyond_the_horizon_is_warned_of(agent: nacre.TrainedAgent) -> None:
    name = "nacre-tests/LongWalk-v0"
    gymnasium.register(name, entry_point=GymnasiumWalk, max_episode_steps=1000)
    try:
        with pytest.warns(UserWarning, match="may take 1000 steps, but are cut after 20"):
            trial = agent.adapt(gymnasium.make(name), episodes=2)
    finally:
        del gymnasium.registry[name]
    assert [report.length for report in trial.episodes] == [20, 20]
