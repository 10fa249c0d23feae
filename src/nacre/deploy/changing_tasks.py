"""Trials whose task changes inside the scored episode: what is earned before, at and after the change."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Unpack

import numpy as np

from nacre.deploy.change_detector import with_detector
from nacre.deploy.session import seed_key
from nacre.errors import NacreError
from nacre.families.family import num_tasks, take
from nacre.presets.trials import TrialOptions, TrialSettings
from nacre.simulation import rollout
from nacre.simulation.change import Change, check_change
from nacre.types import Agent

if TYPE_CHECKING:
    from nacre.deploy.trained_agent import TrainedAgent

AGENT, RESET, DETECTOR, ORACLE = "agent", "reset by hand", "detector", "oracle"
ORDER = (AGENT, RESET, DETECTOR, ORACLE)
WINDOWS = ("before", "at", "after")


class Earned(NamedTuple):
    """What one agent earned in the trials."""

    rewards: np.ndarray  # [repeat, task, step] of the episode in which the task changes; 0 behind its end
    later: np.ndarray  # [repeat, task, episode] returns of the episodes after it, in the new task

    def windows(self, at: int, window: int) -> dict[str, np.ndarray]:
        """Returns [repeat, task] of as many steps `before` the change, `at` it (from its first step on), and `after`
        it: the last ones of the episode."""
        parts = (slice(at - window, at), slice(at, at + window), slice(-window, None))
        return {name: self.rewards[:, :, part].sum(axis=2) for name, part in zip(WINDOWS, parts, strict=True)}


class Detected(NamedTuple):
    """When a detector fired for the first time in the trials."""

    wanted: float  # the share of trials with a false alarm for which it was set, in train tasks
    false: float  # the share in these tasks, of trials whose task stayed
    early: float  # of trials whose task changed, the share in which it fired before
    found: float  # of these, the share in which it fired after, and not before
    delays: list[int]  # [found trial] steps from the change until it fired


class ChangeReport(NamedTuple):
    """Trials whose task changes inside the scored episode."""

    at: int  # steps of the episode in the first task
    window: int  # steps that each of the three returns is a sum of
    pairs: list[list[tuple[dict[str, Any], dict[str, Any]]]]  # [repeat][task]: the first task, and what it becomes
    agents: dict[str, Earned]  # AGENT; RESET, whose belief goes back to the prior then; DETECTOR and ORACLE, where
    # they are asked for
    trials: TrialSettings
    detected: Detected | None = None

    def rows(self) -> list[dict[str, Any]]:
        """A row an agent, repeat and task: agent, repeat, task, then, before, at, after, episode_after_1 ..."""
        return [
            {"agent": name, "repeat": repeat, "task": task, "then": then}
            | {part: float(values[repeat, index]) for part, values in earned.windows(self.at, self.window).items()}
            | {f"episode_after_{n + 1}": float(value) for n, value in enumerate(earned.later[repeat, index])}
            for name, earned in self.agents.items()
            for repeat, row in enumerate(self.pairs)
            for index, (task, then) in enumerate(row)
        ]


def evaluate_change(
    agent: TrainedAgent, at: int, tasks: str = "test", *, window: int | None = None, episodes_after: int = 0,
    oracle: TrainedAgent | None = None, episodes: int | None = None, repeats: int | None = None, seed: int = 0,
    detect: float | None = None, **options: Unpack[TrialOptions],
) -> ChangeReport:  # fmt: skip
    """Trials in which every task becomes another one of these after `at` steps of the scored episode.

    Beside the agent, the same agent whose belief goes back to the prior at the change (`Agent.restart`), and an oracle
    of the same family, which is told the new task. In repeat r, a task changes to the task that is r + 1 places after
    it in the list. `window`: steps of each return; None: half of the steps after the change, or all before it if these
    are fewer.
    `episodes_after`: further episodes in the new task. `detect`: also an agent that begins anew when it thinks that the
    task has changed; in this share of trials in train tasks, whose task stays, it does so too.
    `tasks`, `episodes`, `repeats`, `seed` and `options` as in `TrainedAgent.evaluate`. Raises NacreError where
    the family's task cannot change inside an episode.
    """
    family, trials = agent.family, agent.trials.changed(episodes, repeats, **options)
    check_change(family)
    window = _checked_window(at, window, family.horizon)
    _check_trials(trials, episodes_after)
    if oracle is not None and (oracle.family != family or not oracle.experiment.algorithm.needs_task):
        raise NacreError(f"{oracle!r} is no oracle of {family.name}; give a run of 'nacre train oracle {family.name}'.")
    chosen = agent.choose_tasks(tasks, seed)
    then = changed_to(num_tasks(chosen), trials.repeats)
    players = {AGENT: (agent, trials, agent.experiment.algorithm.needs_task)}
    if not agent.experiment.algorithm.needs_task:
        players[RESET] = (agent, trials, True)
    if oracle is not None:
        players[ORACLE] = (oracle, oracle.trials.changed(repeats=trials.repeats), True)
    earned, play = {}, functools.partial(_played, tasks=chosen, then=then, after=episodes_after, seed=seed)
    for name, (one, own, restart) in players.items():
        earned[name], _ = play(one, own, _acting(one, own, episodes_after), change=Change(at, {}, restart))
    detected = None
    if detect is not None:
        longer = _with_episodes(trials, episodes_after)
        acting = with_detector(agent, longer, detect)
        earned[DETECTOR], fired = play(agent, trials, acting, change=Change(at, {}))
        _, fired_anyway = play(agent, trials, acting, change=None)
        detected = _detected(detect, fired, fired_anyway, at)
    described = [{name: value.tolist() for name, value in take(chosen, i).items()} for i in range(num_tasks(chosen))]
    pairs = [[(described[task], described[new]) for task, new in enumerate(row)] for row in then.tolist()]
    return ChangeReport(at, window, pairs, {name: earned[name] for name in ORDER if name in earned}, trials, detected)


def changed_to(number: int, repeats: int) -> np.ndarray:
    """The number of the task that each of `number` tasks becomes, [repeat, task]; never itself."""
    if number < 2:
        raise NacreError("there is only one task, which cannot become another; choose --tasks fresh:N with N above 1.")
    by = 1 + np.arange(repeats) % (number - 1)
    return np.asarray((np.arange(number) + by[:, None]) % number)


def _with_episodes(trials: TrialSettings, after: int) -> TrialSettings:
    """Trials with further episodes: an agent remembers so many."""
    return trials if after == 0 else trials.changed(episodes=trials.episodes + after)


def _acting(agent: TrainedAgent, trials: TrialSettings, after: int) -> tuple[Agent, Any]:
    longer = _with_episodes(trials, after)
    return agent.functions_for(longer), agent.params_for(longer)


class Fired(NamedTuple):
    """When the detector of every trial fired for the first time, [trial]."""

    step: np.ndarray  # of the trial, counted from 1; -1: never
    before: np.ndarray  # steps of the episodes before the scored one


def _played(
    agent: TrainedAgent, trials: TrialSettings, acting: tuple[Agent, Any], *, tasks: Any, then: np.ndarray,
    change: Change | None, after: int, seed: int,
) -> tuple[Earned, Fired]:  # fmt: skip
    repeats, number = then.shape
    lanes = take(tasks, np.tile(np.arange(number), repeats))
    change = None if change is None else change._replace(task=take(tasks, then.ravel()))
    num_episodes = trials.episodes if change is not None else trials.episodes + after
    num_after = after if change is not None else 0
    played = list(
        rollout.trial(
            agent.family, *acting, lanes, seed_key(seed), num_episodes, change=change, num_after=num_after
        )
    )  # fmt: skip
    scored = trials.episodes - 1
    before = np.sum([one.episode.length for one in played[:scored]], axis=0) + np.zeros(len(then.ravel()))
    fired = Fired(np.asarray(getattr(played[-1].memory_after, "first_fired", before * 0 - 1)), before)
    episodes = [one.episode for one in played[scored:]]
    rewards = np.asarray(episodes[0].transitions.reward, np.float64)
    rewards = np.where(np.arange(rewards.shape[1]) < np.asarray(episodes[0].length)[:, None], rewards, 0.0)
    later = np.array([one.returns() for one in episodes[1:]]).reshape(after, repeats, number)
    return Earned(rewards.reshape(repeats, number, -1), np.moveaxis(later, 0, -1)), fired


def _detected(wanted: float, fired: Fired, fired_anyway: Fired, at: int) -> Detected:
    since = fired.step - (fired.before + at)
    has_fired = fired.step >= 0
    found = has_fired & (since > 0)
    early = has_fired & (since <= 0)
    false = float((fired_anyway.step >= 0).mean())
    return Detected(wanted, false, float(early.mean()), float(found.mean()), since[found].astype(int).tolist())


def _checked_window(at: int, window: int | None, horizon: int) -> int:
    if not 1 <= at < horizon:
        raise NacreError(
            f"the task is to change at step {at}, but an episode has {horizon}; choose --change-at from 1 to "
            f"{horizon - 1}."
        )
    most = min(at, horizon - at)
    if window is None:
        return max(1, min(at, (horizon - at) // 2))
    if not 1 <= window <= most:
        raise NacreError(
            f"the window is {window} steps, but must fit before and behind a change at step {at}; choose "
            f"--change-window from 1 to {most}."
        )
    return window


def _check_trials(trials: TrialSettings, episodes_after: int) -> None:
    if trials.meets.logs is not None:
        raise NacreError(
            f"protocol {trials.protocol} gives the agent logged transitions of one task, and a task that changes has "
            "two; choose a protocol without, such as --protocol online-prior."
        )
    if episodes_after < 0 or (episodes_after > 0 and trials.meets.one_episode):
        raise NacreError(
            f"episodes_after is {episodes_after}, but must be at least 0, and 0 by protocol zero-shot; change "
            "--episodes-after."
        )


def recorded(report: ChangeReport) -> dict[str, Any]:
    """The report as a JSON object: what `nacre evaluate --change-at --json` prints."""
    trials = report.trials

    def of_agent(earned: Earned) -> dict[str, Any]:
        windows = {name: values.tolist() for name, values in earned.windows(report.at, report.window).items()}
        by_step = earned.rewards.mean(axis=(0, 1)).tolist()
        return windows | {"episodes_after": earned.later.tolist(), "reward_by_step": by_step}

    return {
        "change_at": report.at, "change_window": report.window, "protocol": trials.protocol,
        "scored_episode": trials.episodes, "exploration_episodes": trials.exploration_episodes,
        "exploration": trials.exploration, "forgetting": trials.forgetting, "resample": trials.resample,
        "pairs": [[{"task": task, "then": then} for task, then in row] for row in report.pairs],
        "agents": {name: of_agent(earned) for name, earned in report.agents.items()},
        "detected": None if report.detected is None else report.detected._asdict(),
    }  # fmt: skip


def mean_of(rows: Sequence[dict[str, Any]], name: str, column: str) -> float:
    """The mean of a column over one agent's rows."""
    return float(np.mean([row[column] for row in rows if row["agent"] == name]))
