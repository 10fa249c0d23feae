"""One policy that is told the task, nacre's `oracle`, in the place of a policy for every task: its checkpoints."""

from __future__ import annotations

import dataclasses
import json
import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nacre.algorithms.registry import ALGORITHMS
from nacre.collect import sac, work
from nacre.collect.rollouts import Request
from nacre.collect.run_replay import origin_of, run_on
from nacre.collect.training import EVALUATION_EPISODES
from nacre.collect.work import TaskPlan
from nacre.deploy.trained_agent import load
from nacre.errors import NacreError
from nacre.families.family import Family, TaskSet, take
from nacre.presets.oracle import PRESETS, OracleSettings
from nacre.presets.settings import row_of
from nacre.runs import arrays
from nacre.runs.checkpoints import KEPT, Checkpoints
from nacre.runs.migration import completed
from nacre.runs.pace import SECONDS_BETWEEN_SAVES, duration
from nacre.simulation.rollout import begin, episode, side_by_side
from nacre.types import Agent, Episode, Key, Tasks


class OraclePolicies:
    """Checkpoints of one policy that acts in every task."""

    shared = True

    def __init__(self, plan: TaskPlan, agent: Agent, params: dict[int, Any], recipe: dict[str, Any]):
        """`params` by the number of the checkpoint."""
        self.plan, self.recipe, self.steps = plan, recipe, sorted(params)
        self._agent, self._params = agent, params
        self._key = jax.random.fold_in(jax.random.key(plan.seed), 2**30)
        self.returns = np.stack([self._deterministic(step) for step in self.steps])
        self.random = self._mean_returns(sac.uniform(plan.family.action_dim), np.zeros(()), explore=True)

    def _deterministic(self, step: int) -> np.ndarray:
        return self._mean_returns(self._agent, self._params[step], explore=False)

    def _mean_returns(self, agent: Agent, params: Any, *, explore: bool) -> np.ndarray:
        lanes = take(self.plan.tasks, np.repeat(np.arange(len(self.plan)), EVALUATION_EPISODES))
        memory = begin(agent, params, lanes, self._key)
        _, played = episode(self.plan.family, agent, params, memory, lanes, self._key, explore=explore)
        returns: np.ndarray = played.returns().reshape(-1, EVALUATION_EPISODES).mean(axis=1)
        return returns

    def play(self, requests: Sequence[Request], tasks: Tasks, keys: Key) -> Episode:
        """See `rollouts.Policies`. In another task than its own a policy believes that it is in its own."""
        believed = take(self.plan.tasks, np.array([one.policy for one in requests]))
        acting, params = side_by_side(self._agent, 1), jax.tree.map(lambda x: x[None], self._params[requests[0].step])
        memory = begin(acting, params, believed, keys[:1])
        return episode(self.plan.family, acting, params, memory, tasks, keys[:1], explore=True)[1]


def policies_of_run(
    path: Path, family: str, seed: int, benchmark: str, tasks: tuple[Tasks, Tasks] | None
) -> OraclePolicies:
    """The checkpoints that a run on that family has, in its own tasks or in others."""
    run = run_on(path, family)
    experiment = run.experiment
    if not experiment.algorithm.needs_task:
        raise NacreError(
            f"the run at {path} is of {experiment.algorithm_name}, which is not told the task; name a run of the "
            "oracle, or log what it has collected with --quality replay."
        )
    steps = Checkpoints(run.checkpoints, read_only=True).steps()
    if not steps:
        raise NacreError(f"the run at {path} has no checkpoint yet; resume with 'nacre resume'.")
    agents = {step: load(path, step) for step in steps}
    train, test = tasks or (run.tasks.train, run.tasks.test)
    plan = TaskPlan(experiment.family, train, test, seed=seed, benchmark=benchmark)
    recipe = {
        "algorithm": experiment.algorithm_name, "settings": dataclasses.asdict(experiment.settings),
        "run_seed": experiment.options.seed, "seed": seed, **origin_of(run),
    }  # fmt: skip
    return OraclePolicies(plan, agents[steps[0]].functions, {step: one.params for step, one in agents.items()}, recipe)


def settings_for(plan: TaskPlan, num_updates: int | None) -> OracleSettings:
    """The oracle's preset `fast`, trained on all tasks; `num_updates` in all (None: as the preset has)."""
    row = row_of(PRESETS["fast"], type(plan.family)) or {}
    settings = OracleSettings(**{**row, "num_train_tasks": len(plan), "test_tasks_from": 0})  # type: ignore[arg-type]
    if num_updates is None:
        return settings
    return dataclasses.replace(settings, iterations=max(1, -(-num_updates // settings.num_train_steps_per_iteration)))


def train(
    path: Path, plan: TaskPlan, settings: OracleSettings, num_checkpoints: int,
    stopped: Callable[[], str | None], tell: Callable[[str], None],
) -> OraclePolicies | None:  # fmt: skip
    """Trains the oracle on all tasks of the plan, train and test, from wherever `path` stands; None where it was
    stopped before its end."""
    _check(path, plan, settings)
    arrays.make(path / "checkpoints")
    with work.locked(path):
        return _train(path, plan, settings, num_checkpoints, stopped, tell)


def _train(
    path: Path, plan: TaskPlan, settings: OracleSettings, num_checkpoints: int,
    stopped: Callable[[], str | None], tell: Callable[[str], None],
) -> OraclePolicies | None:  # fmt: skip
    algorithm = ALGORITHMS["oracle"]
    agent = algorithm.make_agent(plan.family, settings)
    state = algorithm.init(plan.family, settings, plan.seed)
    template = jax.eval_shape(lambda: algorithm.agent_params(algorithm.init(plan.family, settings, plan.seed)))
    saved, folder = Checkpoints(path / "state"), path / "checkpoints"
    if saved.latest() is not None:
        state = saved.restore(state)
        tell(f"resumes from {int(state.grad_steps):,} updates")
        _check_kept(folder, [one for one in checkpoint_updates(settings, num_checkpoints) if one <= state.grad_steps])
    last, saved_at = settings.iterations, time.monotonic()
    wanted = set(_kept_iterations(settings, num_checkpoints))
    started, first = time.monotonic(), int(state.grad_steps)
    total = last * settings.num_train_steps_per_iteration
    tell(f"{len(plan)} tasks of {plan.family.name}, one policy that is told the task, {total:,} updates, "
         f"{_disk(state, template, len(wanted)) / 1e6:,.0f} MB of disk")  # fmt: skip
    done = int(state.meta_iterations)
    for states, _ in algorithm.meta_train(plan.family, settings, TaskSet(plan.tasks, plan.tasks, 0), [state]):
        state = states[0]
        if int(state.meta_iterations) == done:
            continue
        done, updates = int(state.meta_iterations), int(state.grad_steps)
        if done in wanted:
            arrays.save(folder / f"updates-{updates:07d}.npz", arrays.named(algorithm.agent_params(state)))
        left = (time.monotonic() - started) / (updates - first) * (total - updates)
        tell(f"{updates:,} of {total:,} updates, {int(state.env_steps):,} steps, {duration(left)} left")
        reason = stopped()
        if reason or done == last or time.monotonic() - saved_at > SECONDS_BETWEEN_SAVES:
            saved.save(updates, state)
            saved.prune()
            saved_at = time.monotonic()
        if reason and done < last:
            tell(f"stopped by {reason}; the same command resumes it")
            return None
    files = _check_kept(folder, checkpoint_updates(settings, num_checkpoints))
    found = {step: arrays.read(file) for step, file in files.items()}
    params = {step: arrays.rebuilt(template, read) for step, read in found.items()}
    return OraclePolicies(plan, agent, params, recipe_of(plan, settings))


def _check_kept(folder: Path, updates: list[int]) -> dict[int, Path]:
    """The files of the checkpoints after these numbers of updates. NacreError where one was not kept."""
    files = {int(re.sub(r"\D", "", file.stem)): file for file in sorted(folder.glob("updates-*.npz"))}
    missing = [number for number in updates if number not in files]
    if missing:
        raise NacreError(
            f"{folder} has no checkpoint after {missing[0]:,} updates, but after {', '.join(f'{n:,}' for n in files)}: "
            "this training was begun with another --checkpoints; give that number, or another --work."
        )
    return {number: files[number] for number in updates}


def recipe_of(plan: TaskPlan, settings: OracleSettings) -> dict[str, Any]:
    """What data sets tell about how these policies were made."""
    return {"algorithm": "oracle", "settings": dataclasses.asdict(settings), "seed": plan.seed}


def checkpoint_updates(settings: OracleSettings, num_checkpoints: int) -> list[int]:
    """After how many updates a checkpoint is kept, rising; the last is the end."""
    return [one * settings.num_train_steps_per_iteration for one in _kept_iterations(settings, num_checkpoints)]


def _kept_iterations(settings: OracleSettings, num_checkpoints: int) -> list[int]:
    evenly = np.linspace(settings.iterations / num_checkpoints, settings.iterations, num_checkpoints)
    return sorted(set(np.ceil(evenly).astype(int).tolist()))


def _disk(state: Any, params: Any, num_checkpoints: int) -> int:
    """Bytes that the work directory takes at the end: the states that are kept, and the policies."""
    held, policy = (sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(part)) for part in (state, params))
    return KEPT * held + num_checkpoints * policy


def _check(path: Path, plan: TaskPlan, settings: OracleSettings) -> None:
    """Begins the work directory, or refuses one of another plan."""
    told = {"recipe": "oracle", **plan.told(), "settings": dataclasses.asdict(settings)}
    file = path / "work.json"
    if file.exists():
        if _read(file, type(plan.family)) != json.loads(json.dumps(told)):
            raise NacreError(f"{path} holds another collection; choose another --work, or remove it.")
        return
    if path.exists() and any(path.iterdir()):
        raise NacreError(f"{path} is in the way, and no work of 'nacre collect'; choose another --work.")
    arrays.make(path)
    arrays.replace(file, json.dumps(told, indent=1).encode())


def _read(file: Path, family: type[Family]) -> dict[str, Any]:
    """A plan as it was told, with all fields of today."""
    try:
        told: dict[str, Any] = json.loads(file.read_text())
        return told | {
            "settings": completed(told["settings"], OracleSettings),
            "family_options": completed(told["family_options"], family),
        }
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise NacreError(f"{file} cannot be used ({error!r}); choose another --work.") from error
