"""Online fine-tuning of a run in the tasks of a data set: `nacre.fine_tune` and `nacre finetune`."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nacre.algorithms import registry
from nacre.data import contexts
from nacre.deploy import logged_tasks
from nacre.deploy.session import seed_key
from nacre.deploy.trained_agent import TrainedAgent, load
from nacre.errors import NacreError
from nacre.families.family import as_lists, describe, num_tasks
from nacre.fine_tuning import loop
from nacre.fine_tuning.loop import Problem, Round
from nacre.fine_tuning.work import Directory, History, nothing_yet
from nacre.learning.fine_tuning import width
from nacre.presets import protocols
from nacre.presets.fine_tuning import FineTuneSettings
from nacre.presets.trials import TrialSettings
from nacre.runs import arrays
from nacre.runs.experiment import to_json
from nacre.runs.memory import memory_limit
from nacre.runs.pace import SECONDS_BETWEEN_REPORTS, SECONDS_BETWEEN_SAVES, duration
from nacre.runs.stopping import StopRequest
from nacre.types import Logged

if TYPE_CHECKING:
    from nacre.data.dataset import DataSet


class FineTuned(NamedTuple):
    """The result of a fine-tuning. Returns are means over a round's deterministic episodes, except the noisy returns.

    If the fine-tuning was stopped, `after` has the returns of the last round, before the updates of that round.
    """

    path: Path
    tasks: list[dict[str, Any]]
    gradient_steps: int
    before: np.ndarray  # [task] by the run's networks as they are
    adapted: np.ndarray  # [task] after the gradient steps on logged transitions
    after: np.ndarray  # [task] after the last round's updates
    returns: np.ndarray  # [round, task] before the updates of each round
    noisy_returns: np.ndarray  # [round, task] of the episodes that were collected
    env_steps: np.ndarray  # [round + 1, task] collected before each round, and in all
    stopped_by: str | None  # 'Ctrl-C', 'SIGTERM', 'the time limit'; None: it is complete


def fine_tune(
    run: str | Path | TrainedAgent, out: str | Path | None = None, settings: FineTuneSettings | None = None, *,
    tasks: str = "test", data: DataSet | str | Path | None = None, gradient_steps: int | None = None,
    context_transitions: int | None = None, seed: int = 0, checkpoint: str | int = "latest",
    time_limit: float | None = None, tell: Callable[[str], None] = lambda line: None,
) -> FineTuned:  # fmt: skip
    """Lets a run continue learning online in each of its 'test' or 'train' tasks, or in those of a data set.

    In every task the networks take `gradient_steps` on logged transitions of it (both as the run was configured unless
    given), as by protocol gradient-steps:K. Then they learn, in rounds, from what they collect there.

    `out`: the directory for tables and state, RUN/finetune unless given; the same call resumes it. `time_limit`
    is in minutes. `tell` gets lines about progress. Raises NacreError where the run's method cannot do it, where
    nothing was logged of the tasks, and where `out` holds something else.
    """
    stop = StopRequest(time_limit)
    agent = run if isinstance(run, TrainedAgent) else load(run, checkpoint)
    if out is None and isinstance(run, TrainedAgent):
        raise NacreError("an agent in memory has no directory; say where the tables are to lie, by out=...")
    asked = _asked(agent, settings or FineTuneSettings(), tasks, data, gradient_steps, context_transitions, seed)
    directory = Directory(Path(out) if out is not None else Path(str(run)) / "finetune", asked.plan)
    with directory.locked(), stop.listening():
        return _run(directory, asked, agent.params, seed, stop, tell)


class _Asked(NamedTuple):
    problem: Problem
    logged: Logged | None
    num_steps: int
    plan: dict[str, Any]  # as JSON has it


def _asked(
    agent: TrainedAgent, settings: FineTuneSettings, which: str, data: DataSet | str | Path | None,
    gradient_steps: int | None, context_transitions: int | None, seed: int,
) -> _Asked:  # fmt: skip
    """What is to be done, with all that it needs. Refuses what cannot be done."""
    experiment, family = agent.experiment, agent.family
    if experiment.algorithm.fine_tuning is None:
        registry.load_offered()
        known = [name for name, method in registry.loaded().items() if method.fine_tuning is not None]
        raise NacreError(
            f"{experiment.algorithm_name} cannot be fine-tuned online; take a run of one of: {', '.join(known)}."
        )
    trials = _trials(agent, gradient_steps, context_transitions)
    if which not in ("test", "train"):
        raise NacreError(f"nothing was logged of '{which}' tasks; choose --tasks test or --tasks train.")
    found = logged_tasks.opened(data, experiment) if data is not None or trials.meets.logs else None
    chosen = agent.choose_tasks(which) if data is None or found is None else logged_tasks.tasks_of(found, which)
    if data is not None and found is not None:
        agent.tell_of_tasks_trained_on(chosen, which, found)
    _check_memory(agent, settings, trials, num_tasks(chosen))
    numbers = np.arange(num_tasks(chosen))
    logged = contexts.for_trials(found, trials, which, numbers, seed_key(seed)[None], repeats=1)
    method = experiment.algorithm.fine_tuning(family, experiment.settings)
    problem = Problem(family, chosen, method, settings, experiment.settings.discount)
    return _Asked(problem, logged, trials.meets.steps, _plan(agent, problem, trials, found, which, seed))


def _trials(agent: TrainedAgent, gradient_steps: int | None, context_transitions: int | None) -> TrialSettings:
    """How the agent meets a task before it is fine-tuned there."""
    settings, run = agent.experiment.settings, protocols.parse(agent.trials.protocol)
    usual = run.steps if run.name == protocols.GRADIENT_STEPS else settings.usual_steps
    steps = usual if gradient_steps is None else gradient_steps
    if steps < 0:
        raise NacreError(f"gradient_steps is {steps}, but must be at least 0; change --gradient-steps.")
    protocol = f"{protocols.GRADIENT_STEPS}:{steps}"
    return agent.trials.changed(protocol=protocol, context_transitions=context_transitions)


def _check_memory(agent: TrainedAgent, settings: FineTuneSettings, trials: TrialSettings, number: int) -> None:
    needed, limit = _replay_bytes(agent, settings, trials, number), memory_limit()
    if needed > limit:
        raise NacreError(
            f"the replay of {number} tasks would need {needed / 1e9:,.1f} GB, but the machine has {limit / 1e9:,.1f} "
            "GB; ask for fewer --rounds."
        )


def _replay_bytes(agent: TrainedAgent, settings: FineTuneSettings, trials: TrialSettings, number: int) -> int:
    family = agent.family
    rows = settings.rounds * family.horizon + trials.context_transitions
    return 4 * number * rows * width(family.obs_dim, family.action_dim)


def _plan(
    agent: TrainedAgent, problem: Problem, trials: TrialSettings, data: DataSet | None, which: str, seed: int
) -> dict[str, Any]:
    run = json.loads(to_json(agent.experiment, {}))
    del run["options"]["checkpoint_minutes"]
    networks = hashlib.sha256()
    for name, values in sorted(arrays.named(agent.params).items()):
        networks.update(name.encode() + np.asarray(values).tobytes())
    return {
        "run": run, "checkpoint": agent.grad_steps, "networks_sha256": networks.hexdigest(),
        "data": "" if data is None else data.id,
        "data_hash": "" if data is None else data.content_hash, "tasks": which, "task": as_lists(problem.tasks),
        "protocol": trials.protocol, "context_transitions": trials.context_transitions, "seed": seed,
        "settings": dataclasses.asdict(problem.settings),
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------------------------
# The rounds


def _run(
    directory: Directory, asked: _Asked, params: Any, seed: int, stop: StopRequest, tell: Callable[[str], None]
) -> FineTuned:
    problem, settings = asked.problem, asked.problem.settings
    begun = loop.begin(problem, params, asked.logged, asked.num_steps, seed)
    kept = directory.load(begun, settings.rounds)
    directory.write_plan()
    if kept is None:
        start = loop.begin(problem, params, asked.logged, 0, seed)
        kept = begun, nothing_yet(loop.scored_returns(problem, start.networks, begun))
    else:
        tell(f"resumes from round {kept[0].rounds:,} of {settings.rounds:,}")
    state, history = kept
    progress, saved_at = Progress(problem, asked.num_steps, tell), time.monotonic()
    reason = None
    while state.rounds < settings.rounds and reason is None:
        state, round_ = loop.play_round(problem, state)
        history = history.with_round(round_)
        if progress.add(round_, history):
            directory.write_returns(history)
        reason = stop.reason if state.rounds < settings.rounds else None
        if reason or state.rounds == settings.rounds or time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES:
            directory.save(state, history)
            saved_at = time.monotonic()
    if reason:
        tell(f"stopped by {reason} after round {state.rounds:,}; the same command resumes it")
        return _told(directory, asked, history, history.returns[-1], reason)
    after = loop.scored_returns(problem, state.networks, state)
    directory.write_returns(history, after)
    tuned = _told(directory, asked, history, after, None)
    _write_summary(directory, tuned)
    return tuned


def _told(directory: Directory, asked: _Asked, history: History, after: np.ndarray, reason: str | None) -> FineTuned:
    tasks = asked.problem.tasks
    return FineTuned(
        directory.path, [describe(tasks, index) for index in range(num_tasks(tasks))], asked.num_steps, history.before,
        history.returns[0], after, history.returns, history.noisy_returns, history.env_steps, reason,
    )  # fmt: skip


def _write_summary(directory: Directory, tuned: FineTuned) -> None:
    columns = ("task", "env_steps", "before", "adapted", "fine_tuned")
    each = zip(tuned.env_steps[-1], tuned.before, tuned.adapted, tuned.after, strict=True)
    directory.write_summary(
        columns, [(task, int(steps), *(f"{x:.6g}" for x in returns)) for task, (steps, *returns) in enumerate(each)]
    )


def gradient_steps_text(number: int) -> str:
    """As in '1 gradient step'."""
    return f"{number} gradient step{'s' * (number != 1)}"


class Progress:
    """Tells how far the fine-tuning is, and how long it will take; not more often than people can read."""

    def __init__(self, problem: Problem, num_steps: int, tell: Callable[[str], None]):
        self._problem, self._num_steps, self._tell = problem, num_steps, tell
        self._playing: deque[float] = deque(maxlen=20)  # seconds of the last rounds' episodes
        self._updating: deque[float] = deque(maxlen=20)
        self._told_at = -np.inf
        self._num_rounds = self._num_updates = 0

    def add(self, round_: Round, history: History) -> bool:
        """Takes in a round; whether it told of it."""
        now, done, settings = time.monotonic(), len(history.returns), self._problem.settings
        playing, updating = round_.seconds
        if self._num_rounds:  # the first compiles
            self._playing.append(playing)
        self._num_rounds += 1
        if done > settings.rounds_before_updates:
            if self._num_updates:
                self._updating.append(updating)
            self._num_updates += 1
        if now - self._told_at < SECONDS_BETWEEN_REPORTS and done < settings.rounds:
            return False
        self._told_at = now
        before, adapted = history.before.mean(), history.returns[0].mean()
        self._tell(
            f"round {done:,} of {settings.rounds:,}, {history.env_steps[-1].mean():,.0f} steps in a task: return "
            f"{round_.returns.mean():.2f} (before adaptation {before:.2f}, after "
            f"{gradient_steps_text(self._num_steps)} {adapted:.2f}), {playing + updating:.2f} s a round"
            f"{self._left(done)}"
        )
        return True

    def _left(self, done: int) -> str:
        """How long it will take; nothing where updates are to come and none was timed yet."""
        settings = self._problem.settings
        rounds = settings.rounds - done
        with_updates = min(rounds, settings.rounds - settings.rounds_before_updates)
        if rounds == 0 or not self._playing or (with_updates > 0 and not self._updating):
            return ""
        seconds = rounds * float(np.mean(self._playing))
        seconds += max(with_updates, 0) * float(np.mean(self._updating or [0.0]))
        return f", {duration(seconds)} left"
