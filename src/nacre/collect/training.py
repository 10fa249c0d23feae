"""Stage 1 of a collection: trains the policies of every task and keeps checkpoints, from wherever the work stands."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

import numpy as np

from nacre.collect import sac
from nacre.collect.work import Plan, WorkDirectory, locked
from nacre.learning.replay import row_width
from nacre.runs.pace import SECONDS_BETWEEN_REPORTS, SECONDS_BETWEEN_SAVES, duration
from nacre.types import Episode

EVALUATION_EPISODES = 5
"""Episodes of a task whose mean return is a checkpoint's, and that of random actions."""


def train(work: WorkDirectory, stopped: Callable[[], str | None], tell: Callable[[str], None]) -> bool:
    """Trains until every checkpoint is there, or until `stopped` tells a reason: then False, and a later call resumes.

    `tell` gets lines about progress, time and disk. NacreError where another process trains there.
    """
    if work.is_trained:
        return True
    with locked(work.path):
        return _train(work, stopped, tell)


def _train(work: WorkDirectory, stopped: Callable[[], str | None], tell: Callable[[str], None]) -> bool:
    plan, settings, family = work.plan, work.plan.settings, work.plan.family
    tell(forecast(plan))
    state = work.load_state()
    if state.rounds:
        tell(f"resumes from {state.rounds * family.horizon:,} steps")
    random = sac.random_returns(family, state, plan.tasks, EVALUATION_EPISODES)
    work.save_random_returns(random)
    progress = Progress(plan, state.rounds, random.mean(), tell)
    wanted, unsaved, saved_at = settings.checkpoint_rounds(family), list[list[Episode]](), time.monotonic()
    while state.rounds < settings.rounds(family):
        state, round_ = sac.train_round(family, settings, plan.tasks, state)
        unsaved.append(round_.episodes)
        progress.add(round_)
        if state.rounds in wanted:
            returns = sac.deterministic_returns(family, state, plan.tasks, EVALUATION_EPISODES)
            work.save_checkpoint(state.rounds * family.horizon, state.policy, returns)
            tell(f"checkpoint at {state.rounds * family.horizon:,} steps: return {returns.mean():.2f} on average")
            progress.restart()
        reason = stopped()
        if reason or time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES or state.rounds == settings.rounds(family):
            work.save_state(state, unsaved)
            unsaved, saved_at = [], time.monotonic()
        if reason and state.rounds < settings.rounds(family):
            tell(f"stopped by {reason} at {state.rounds * family.horizon:,} steps; the same command resumes it")
            return False
    return True


def forecast(plan: Plan) -> str:
    """Work and disk of the whole training, in one line."""
    settings, family, number = plan.settings, plan.family, len(plan)
    updates = (settings.rounds(family) - settings.random_rounds(family)) * family.horizon
    petaflop = updates * number * settings.update_flops(family) / 1e15
    return (
        f"{number} tasks of {family.name}, {settings.num_steps:,} steps and {updates:,} updates each: "
        f"{petaflop:.3g} PFLOP ({duration(petaflop * 1e4)} at 100 GFLOP/s), {disk(plan) / 1e6:,.0f} MB of disk"
    )


def disk(plan: Plan) -> int:
    """Bytes that the work directory takes at the end."""
    settings, family = plan.settings, plan.family
    hidden, layers = settings.hidden_dim, settings.num_hidden_layers

    def parameters(inputs: int, outputs: int) -> int:
        return (inputs + 1) * hidden + (layers - 1) * (hidden + 1) * hidden + (hidden + 1) * outputs

    policy = parameters(family.obs_dim, 2 * family.action_dim)
    critic = parameters(family.obs_dim + family.action_dim, 1)
    learner = 3 * policy + (3 + 1) * 2 * critic  # Adam keeps two moments; critics have slow copies
    replay = settings.rounds(family) * family.horizon * row_width(family.obs_dim, family.action_dim)
    numbers = len(settings.checkpoint_rounds(family)) * policy + learner + replay
    return 4 * numbers * len(plan)


class Progress:
    """Tells how far the training is, how fast, and how long it will take; not more often than people can read."""

    def __init__(self, plan: Plan, rounds: int, random: float, tell: Callable[[str], None]):
        self._plan, self._rounds, self._random, self._tell = plan, rounds, random, tell
        self._seconds: deque[float] = deque(maxlen=20)  # of the last rounds, checkpoints and saves aside
        self._told_at = self._since = time.monotonic()
        self._num_learnt = 0

    def restart(self) -> None:
        """What happened until now is no part of the next round's time."""
        self._since = time.monotonic()

    def add(self, round_: sac.Round) -> None:
        """Takes in a round."""
        now, family, settings = time.monotonic(), self._plan.family, self._plan.settings
        self._rounds += 1
        self._num_learnt += len(round_.q_mean) > 0
        if self._num_learnt > 1:  # the first compiles
            self._seconds.append(now - self._since)
        self._since = now
        if self._seconds and (now - self._told_at > SECONDS_BETWEEN_REPORTS or len(self._seconds) == 1):
            self._told_at = now
            left = (settings.rounds(family) - self._rounds) * float(np.mean(self._seconds))
            returns = np.concatenate([one.returns()[one.length > 0] for one in round_.episodes])
            self._tell(
                f"{self._rounds * family.horizon:,} of {settings.num_steps:,} steps, return {returns.mean():.2f} "
                f"(random {self._random:.2f}), {1e3 * round_.seconds / len(round_.q_mean):.1f} ms an update of all "
                f"tasks, {duration(left)} left"
            )
