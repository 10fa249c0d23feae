"""Stage 2 of a collection: stochastic episodes of the checkpoints, as data sets by quality.

    random    uniformly random actions
    medium    the two checkpoints of each task whose returns are nearest to half of the way from random to its best;
              where none is better than random, the two in the middle of its training
    expert    the last two checkpoints
    mixed     all checkpoints
    replay    what the policies learnt from, from the first random actions on

Each but the replay has as many episodes of a task. Beside the tasks' own data stand episodes in every test task by
policies of train tasks ('other'), for protocols that give an agent contexts which it did not collect itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from nacre.collect import sac
from nacre.collect.work import TaskPlan, WorkDirectory
from nacre.data.episodes import LoggedEpisode
from nacre.errors import NacreError
from nacre.families.family import take
from nacre.learning.replay import unpack
from nacre.simulation.rollout import episode, play, side_by_side
from nacre.types import Episode, Key, Tasks, Transition

QUALITIES = ("random", "medium", "expert", "mixed", "replay")
LANES = 400
"""Episodes that are played side by side, at most."""
OTHER_EPISODES = 60
"""Episodes in every test task by policies of train tasks, evenly by all of them."""
EXPERT, MEDIUM = 0.9, 0.1
"""Share of the way from random actions to a task's best checkpoint from which on a checkpoint's episodes, in a data set
of all checkpoints, are called so; below they are called random."""


class Request(NamedTuple):
    """An episode that is to be played."""

    split: str
    task: int  # its number within its split's tasks
    place: int  # of the task among all that have a policy
    policy: int  # place of the task whose policy acts
    step: int  # checkpoint of the policy; 0: random actions
    quality: str


class Policies(Protocol):
    """Checkpoints of policies for every task of a plan, wherever they came from."""

    plan: TaskPlan
    recipe: dict[str, Any]
    """What data sets tell about how they were made."""
    steps: list[int]
    """Steps of the checkpoints, ascending."""
    shared: bool
    """Whether all tasks have one policy, so that episodes of one checkpoint at a time are played side by side."""
    random: np.ndarray
    """Mean return of random actions, [task]."""
    returns: np.ndarray
    """Mean return of the mean actions of each checkpoint, [step, task]."""

    def play(self, requests: Sequence[Request], tasks: Tasks, keys: Key) -> Episode:
        """An episode a lane, stochastic; all of one checkpoint where policies are `shared`."""


class SacPolicies:
    """The checkpoints of `training.train`."""

    shared = False

    def __init__(self, work: WorkDirectory):
        self.plan: TaskPlan = work.plan
        self.steps = work.steps()
        if not self.steps:
            raise NacreError(f"{work.path} has no checkpoint yet; train first, without --only roll.")
        checkpoints = {step: work.checkpoint(step) for step in self.steps}
        self._policies = {step: checkpoint.policy for step, checkpoint in checkpoints.items()}
        self.random = work.random_returns().mean(axis=1)
        self.returns = np.stack([checkpoint.returns.mean(axis=1) for checkpoint in checkpoints.values()])
        settings = dataclasses.asdict(work.plan.settings)
        self.recipe: dict[str, Any] = {"algorithm": "sac", "settings": settings, "seed": work.plan.seed}

    def play(self, requests: Sequence[Request], tasks: Tasks, keys: Key) -> Episode:
        """See `Policies`."""
        trees = [self._policies[one.step] for one in requests]
        places = [one.policy for one in requests]
        policies = jax.tree.map(lambda *x: np.stack([leaf[at] for leaf, at in zip(x, places, strict=True)]), *trees)
        return play(self.plan.family, sac.POLICY, policies, tasks, keys, 1, explore=True)


# ----------------------------------------------------------------------------------------------------------------------
# What is played


def normalised(policies: Policies) -> np.ndarray:
    """Returns of the checkpoints, [step, task]: 0 is random, 1 the task's best checkpoint. NaN in a task where no
    checkpoint is better than random actions."""
    width = policies.returns.max(axis=0) - policies.random
    return (policies.returns - policies.random) / np.where(width > 0, width, np.nan)


def chosen_steps(policies: Policies, quality: str, place: int) -> list[int]:
    """The checkpoints of a task that a data set of this quality has."""
    if quality == "random":
        return [0]
    order = np.arange(len(policies.steps))
    if quality == "medium":
        values = normalised(policies)[:, place]
        if np.isnan(values).any():
            values = np.linspace(0, 1, len(order)) if len(order) > 1 else np.zeros(1)
        order = np.sort(np.argsort(np.abs(values - 0.5), kind="stable")[:2])
    elif quality == "expert":
        order = order[-2:]
    return [policies.steps[index] for index in order]


def requests(policies: Policies, quality: str, num_episodes: int) -> list[Request]:
    """All episodes of a data set, `num_episodes` of every checkpoint in each task where all are played, else as many in
    all. Of a replay: those by other tasks' policies alone."""
    plan, total = policies.plan, num_episodes * len(policies.steps)
    wanted = []
    for split in ("train", "test") if quality != "replay" else ():
        for task, place in enumerate(plan.members(split)):
            steps = chosen_steps(policies, quality, place)
            for index in range(total):
                step = steps[index * len(steps) // total]
                wanted.append(
                    Request(split, task, int(place), int(place), step, _label(policies, quality, step, place))
                )
    train = plan.members("train")
    for task, place in enumerate(plan.members("test")):
        rng = np.random.default_rng([plan.seed, task])
        others = rng.permutation(train[train != place])
        for index in range(OTHER_EPISODES if len(others) else 0):
            policy = int(others[index % len(others)])
            step = int(rng.choice(chosen_steps(policies, quality, policy)))
            label = _label(policies, quality, step, policy)
            wanted.append(Request("other", task, int(place), policy, step, label))
    return wanted


def _label(policies: Policies, quality: str, step: int, place: int) -> str:
    if quality not in ("mixed", "replay"):
        return quality
    value = normalised(policies)[policies.steps.index(step), place]
    return "expert" if value >= EXPERT else "medium" if value >= MEDIUM else "random"


# ----------------------------------------------------------------------------------------------------------------------
# Playing


def logged_episodes(
    policies: Policies, wanted: Sequence[Request], key: Key, lanes: int = LANES
) -> Iterator[LoggedEpisode]:
    """The episodes in the order of the requests of each group that is played together."""
    plan, first = policies.plan, 0
    for group in _groups(policies, wanted):
        number = min(lanes, len(group))
        for start in range(0, len(group), number):
            chunk = list(group[start : start + number])
            filled = chunk + [chunk[-1]] * (number - len(chunk))  # one number of lanes is one program
            tasks = take(plan.tasks, np.array([one.place for one in filled]))
            keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(first + np.arange(number))
            if filled[0].step == 0:
                acting = side_by_side(sac.uniform(plan.family.action_dim), number)
                _, played = episode(plan.family, acting, np.zeros(number), (), tasks, keys, explore=True)
            else:
                played = policies.play(filled, tasks, keys)
            played = jax.tree.map(np.asarray, played)
            yield from (_logged(policies, one, played, lane) for lane, one in enumerate(chunk) if played.length[lane])
            first += number


def _groups(policies: Policies, wanted: Sequence[Request]) -> Iterator[list[Request]]:
    """Requests that can be played side by side."""
    groups: dict[int, list[Request]] = {}
    for one in wanted:
        groups.setdefault(one.step if policies.shared else min(one.step, 1), []).append(one)
    yield from groups.values()


def _logged(policies: Policies, one: Request, played: Episode, lane: int) -> LoggedEpisode:
    transitions = jax.tree.map(lambda x: x[lane, : int(played.length[lane])], played.transitions)
    plan = policies.plan
    owner = plan.members("train" if one.split == "other" else one.split)
    policy = int(np.flatnonzero(owner == one.policy)[0])
    return as_logged(transitions, one.split, one.task, one.quality, one.step, policy if one.step else -1)


def as_logged(
    transitions: Transition, split: str, task: int, quality: str, policy_step: int, policy_task: int
) -> LoggedEpisode:
    """The transitions [time, ...] of an episode as a data set has it."""
    t = transitions
    obs = np.concatenate([t.obs, t.next_obs[-1:]])
    ended = bool(t.discount[-1] == 0)
    return LoggedEpisode(
        task, split, quality, policy_step, policy_task, -1, obs, t.action, t.reward, t.training_reward, ended
    )


def replay_episodes(work: WorkDirectory) -> Iterator[LoggedEpisode]:
    """What the policies learnt from, in the order of their collection."""
    plan = work.plan
    horizon, random = plan.family.horizon, plan.settings.random_rounds(plan.family)
    owners = {
        split: {int(place): task for task, place in enumerate(plan.members(split))} for split in ("train", "test")
    }
    number = 0
    for played in work.replay():
        number += 1
        transitions = jax.tree.map(np.asarray, unpack(jax.numpy.asarray(played.rows), plan.family.obs_dim))
        step = 0 if played.round < random else played.round * horizon
        for split, tasks in owners.items():
            if played.task in tasks:
                task = tasks[played.task]
                yield as_logged(transitions, split, task, "replay", step, task if step else -1)
    if number == 0:
        raise NacreError(
            f"{work.path} has no replay, only checkpoints; choose another --quality, or train where state/ is kept."
        )
