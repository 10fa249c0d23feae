"""A trained agent meets new tasks: in the family's simulator, in anybody's environment, or one step at a time."""

from __future__ import annotations

import numbers
import re
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nacre.errors import NacreError
from nacre.families.family import TaskSet, num_tasks, take
from nacre.runs.compilation_cache import use_compilation_cache
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment, check_seed
from nacre.runs.trainer import load_state
from nacre.simulation import rollout
from nacre.types import Tasks, Transition

OOD_STREAM, FRESH_STREAM = 1, 2
"""Beside a seed, which tasks are drawn from it; train and test tasks follow from the seed alone."""


class EpisodeReport(NamedTuple):
    """What one episode of a trial gave, and what the agent believes after it."""

    episode: int  # from 1
    episode_return: float
    length: int
    belief_mean: list[float]  # [latent_dim]; empty for a method without a belief
    belief_std: list[float]
    success: bool | None = None  # None where the family does not tell


class TrialReport(NamedTuple):
    """One trial: the agent knew nothing of the task before its first episode."""

    task: dict[str, Any]  # empty when the environment was the caller's
    episodes: list[EpisodeReport]

    @property
    def returns(self) -> list[float]:
        """Return of every episode."""
        return [episode.episode_return for episode in self.episodes]


class TrainedAgent:
    """The agent of a run's newest checkpoint. Immutable: every trial and session starts from knowing nothing."""

    def __init__(self, experiment: Experiment, tasks: TaskSet, params: Any):
        self.experiment = experiment
        self.family = experiment.family
        self.tasks = tasks
        self.params = params
        self.functions = experiment.algorithm.make_agent(experiment.family, experiment.settings)

    def evaluate(
        self, tasks: str = "test", episodes: int | None = None, repeats: int | None = None, seed: int = 0
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """(returns[repeat, task, episode], the tasks) on 'test', 'train', 'ood' or 'fresh:N'. None: as configured."""
        evaluation, chosen = self.evaluation(tasks, episodes, repeats, seed)
        return evaluation.returns, chosen

    def evaluation(
        self, tasks: str = "test", episodes: int | None = None, repeats: int | None = None, seed: int = 0
    ) -> tuple[rollout.Evaluation, list[dict[str, Any]]]:
        """As `evaluate`, with what the family says of success."""
        chosen, episodes = self.choose_tasks(tasks, seed), self.num_episodes(episodes)
        repeats = self.experiment.settings.num_evaluation_repeats if repeats is None else repeats
        if repeats < 1:
            raise NacreError(f"repeats is {repeats}, but an evaluation needs at least 1; change --repeats.")
        key = _seed_key(seed)
        evaluation, *_ = rollout.evaluate_side_by_side(
            self.family, chosen, self.functions, [self.params], key[None], episodes, repeats
        )
        return evaluation, [describe(chosen, index) for index in range(num_tasks(chosen))]

    def choose_tasks(self, which: str, seed: int = 0) -> Tasks:
        """The run's 'test' or 'train' tasks, 'fresh:N' new ones from the family's distribution, or 'ood'.

        The out-of-distribution tasks of a run are as many as its test tasks and follow from its task_seed.
        """
        if which in ("test", "train"):
            return self.tasks.test if which == "test" else self.tasks.train
        if which == "ood":
            rng = np.random.default_rng([self.tasks.task_seed, OOD_STREAM])
            return self.family.sample_ood_tasks(rng, num_tasks(self.tasks.test))
        kind, _, number = which.partition(":")
        if kind != "fresh" or not re.fullmatch(r"0*[1-9][0-9]{0,5}", number):
            raise NacreError(f"'{which}' names no tasks; write test, train, ood, or fresh:N with N from 1 to 999999.")
        check_seed("seed", seed)
        return self.family.sample_tasks(np.random.default_rng([seed, FRESH_STREAM]), int(number))

    def meet(self, task: str, episodes: int | None = None, *, allow_ood: bool = False, seed: int = 0) -> TrialReport:
        """A trial on one task in the family's simulator. `task` as in 'velocity=1.3' or 'goal=0.6,0.8'."""
        parsed = self.family.parse_task(task, allow_ood=allow_ood)
        episodes = self.num_episodes(episodes)
        reports = []
        lanes = rollout.trial(self.family, self.functions, self.params, parsed, _seed_key(seed), episodes)
        for index, (episode, _, memory) in enumerate(lanes):
            report = self.report_episode(index, float(episode.returns()[0]), int(episode.length[0]), memory)
            solved = None if episode.success is None else bool(episode.success[0])
            reports.append(report._replace(success=solved))
        return TrialReport(describe(parsed, 0), reports)

    def adapt(self, env: Any, episodes: int | None = None, seed: int = 0, *, task: str | None = None) -> TrialReport:
        """A trial in any object with Gymnasium's `reset` and `step` whose spaces are the family's (actions in [-1, 1]).

        `episodes` None: as many as the run was configured with. `task` is for the oracle, which is told it. Raises
        NacreError when the spaces differ or the environment returns a number that is not finite.
        """
        episodes = self.num_episodes(episodes)
        self._check_spaces(env)
        session, reports = self.session(seed, episodes, task=task), []
        for index in range(episodes):
            obs, _ = env.reset(seed=seed) if index == 0 else env.reset()
            total, ended = 0.0, False
            for length in range(1, self.family.horizon + 1):  # noqa: B007 (used after the loop)
                obs, reward, terminated, truncated, _ = env.step(session.act(obs))
                session.observe(obs, reward, terminated=bool(terminated))
                total, ended = total + float(reward), bool(terminated or truncated)
                if ended:
                    break
            reports.append(self.report_episode(index, total, length, session.memory))
            session.end_episode()
        return TrialReport({}, reports)

    def session(self, seed: int = 0, episodes: int | None = None, *, task: str | None = None) -> Session:
        """The same, one step at a time, for a loop that is not nacre's.

        Methods that sample their actions until the scored episode need to know which that is: the last of `episodes`.
        """
        return Session(self, seed, self.num_episodes(episodes), task)

    def num_episodes(self, asked: int | None) -> int:
        """Episodes of a trial: as asked, else as the run was configured."""
        if asked is not None and asked < 1:
            raise NacreError(f"episodes is {asked}, but a trial needs at least 1; change --episodes.")
        return self.experiment.settings.num_evaluation_episodes if asked is None else asked

    def report_episode(self, index: int, episode_return: float, length: int, memory: Any) -> EpisodeReport:
        """What is told of an episode, given what the agent remembers after it. `index` counts from 0."""
        belief = self.experiment.algorithm.belief
        if belief is None:
            return EpisodeReport(index + 1, episode_return, length, [], [])
        mean, variance = belief(memory, self.experiment.settings)
        return EpisodeReport(
            index + 1, episode_return, length, np.asarray(mean[0]).tolist(), np.sqrt(np.asarray(variance[0])).tolist()
        )

    def _check_spaces(self, env: Any) -> None:
        wanted = (("observation_space", (self.family.obs_dim,)), ("action_space", (self.family.action_dim,)))
        for name, shape in wanted:
            space = getattr(env, name, None)
            if space is not None and getattr(space, "shape", None) != shape:
                raise NacreError(
                    f"the environment's {name} is {space}, but an agent of {self.family.name} needs shape {shape}."
                )
        actions = getattr(env, "action_space", None)
        bounds = (getattr(actions, "low", np.nan), getattr(actions, "high", np.nan))
        if actions is not None and not (np.allclose(bounds[0], -1.0) and np.allclose(bounds[1], 1.0)):
            raise NacreError(
                "the environment's actions are not in [-1, 1]; wrap it in gymnasium.wrappers.RescaleAction."
            )


class Session:
    """One trial, one step at a time: act, observe, ... end_episode, act, ... A step costs the same throughout."""

    def __init__(self, agent: TrainedAgent, seed: int, episodes: int, task: str | None):
        self._agent = agent
        self._scored_episode = episodes - 1
        self._begin_key, self._act_key, self._end_key = jax.random.split(_seed_key(seed), 3)
        told = {"unknown": np.zeros(1)}
        if agent.experiment.algorithm.needs_task:
            if task is None:
                raise NacreError(
                    f"{agent.experiment.algorithm_name} is told its task; give one, as in task='velocity=1'."
                )
            told = agent.family.parse_task(task, allow_ood=True)
        self.memory = rollout.begin(agent.functions, agent.params, told, self._begin_key)
        self.num_steps = 0
        self.num_episodes = 0
        self._obs: np.ndarray | None = None
        self._action: np.ndarray | None = None

    def act(self, obs: Any) -> np.ndarray:
        """The action [action_dim] in [-1, 1] for an observation [obs_dim]."""
        self._obs = self._checked_obs(obs)
        agent = self._agent
        action, self.memory = rollout.act(
            agent.functions, agent.params, self.memory, self._obs, self._act_key, np.int32(self.num_steps),
            explore=agent.functions.explores(self.num_episodes, self._scored_episode),
        )  # fmt: skip
        self._action = np.asarray(action)
        return np.clip(self._action[0], -1.0, 1.0)

    def observe(self, next_obs: Any, reward: float, *, terminated: bool = False) -> None:
        """What the last action led to: the true next observation and the reward. A time limit is not a termination."""
        if self._action is None:
            raise NacreError("observe was called before act; call act first, then observe what it led to.")
        rewards = self._checked_reward(reward)
        discount = np.array([0.0 if terminated else 1.0], np.float32)
        next_obs = self._checked_obs(next_obs)
        transition = Transition(self._obs, self._action, rewards, rewards, discount, next_obs)
        agent = self._agent
        self.memory = rollout.observe(agent.functions, agent.params, self.memory, transition, np.ones(1, bool))
        self.num_steps += 1
        self._action = None

    def end_episode(self) -> None:
        """Ends the episode: the agent settles what it will believe and try in the next one."""
        key = jax.random.fold_in(self._end_key, self.num_episodes)
        self.memory = rollout.end_episode(self._agent.functions, self._agent.params, self.memory, key)
        self.num_episodes += 1
        self._action = None

    def _checked_reward(self, reward: Any) -> np.ndarray:
        """As [1] float32, a copy."""
        if not isinstance(reward, numbers.Real) and (
            np.ndim(reward) > 0 or np.asarray(reward).dtype.kind not in "biuf"
        ):
            raise NacreError(
                f"the reward at step {self.num_steps + 1} is {reward!r}, which is not one number; check "
                "the environment."
            )
        with np.errstate(over="ignore"):
            rewards = np.array([reward], np.float32)
        if not np.isfinite(rewards).all():
            raise NacreError(
                f"the reward at step {self.num_steps + 1} is {reward}, which is not finite; check the environment."
            )
        return rewards

    def _checked_obs(self, obs: Any) -> np.ndarray:
        """As [1, obs_dim] float32, a copy."""
        wanted = (self._agent.family.obs_dim,)
        try:
            with np.errstate(over="ignore"):
                array = np.array(obs, dtype=np.float32)  # a copy: the environment may use its array again
        except (TypeError, ValueError) as error:
            raise NacreError(
                f"an observation is no array of numbers ({error}); it must have shape {wanted}."
            ) from error
        if array.shape != wanted:
            raise NacreError(f"an observation has shape {array.shape}, but {self._agent.family.name} has {wanted}.")
        if not np.isfinite(array).all():
            raise NacreError(
                f"the observation at step {self.num_steps + 1} is {array.tolist()}, which is not finite; check the "
                "environment."
            )
        return array[None]


def load(path: str | Path) -> TrainedAgent:
    """The trained agent of a run directory's newest checkpoint. Turns on the compilation cache, as training does."""
    use_compilation_cache()
    run = RunDirectory(Path(path))
    state = load_state(run, with_buffers=False)
    return TrainedAgent(run.experiment, run.tasks, run.experiment.algorithm.agent_params(state))


def describe(tasks: Tasks, index: int) -> dict[str, Any]:
    """One task as plain numbers and lists."""
    return {name: value.tolist() for name, value in take(tasks, index).items()}


def _seed_key(seed: int) -> jax.Array:
    check_seed("seed", seed)
    return jax.random.key(seed)
