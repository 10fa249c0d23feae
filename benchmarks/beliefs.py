"""What the beliefs of a run of PEARL hold of its tasks, and how far its agent goes: for ant-goal.

    python benchmarks/beliefs.py RUN... > benchmarks/results/ant-goal-beliefs.csv

A row for each run. The squared error of the task from z, summed over the task's numbers, is that of a ridge regression
on 200 random features of belief means, four contexts a train task. For the error of held-out train tasks the regression
is fitted without the last fifth of the train tasks; the encoder has learnt from all of them. For the scored episode of
test tasks it is fitted to all train tasks, and z is what the agent believes before that episode. Actions are
deterministic, and exploring episodes have z from the prior.
"""

from __future__ import annotations

import csv
import dataclasses
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import nacre
from nacre.algorithms import pearl
from nacre.families.family import num_tasks
from nacre.learning.encoder_contexts import draw_context
from nacre.runs.loading import load_state
from nacre.simulation.rollout import begin, episode, trial
from nacre.types import Episode, Tasks

CONTEXTS = 4
FEATURES = 200
RIDGE = 3.0


def main() -> None:
    """Reads the command line, writes the table."""
    if len(sys.argv) == 1:
        sys.exit(__doc__)
    writer = None
    for path in map(Path, sys.argv[1:]):
        row = measured(path)
        if writer is None:
            writer = csv.DictWriter(sys.stdout, row, lineterminator="\n")
            writer.writeheader()
        writer.writerow(row)


def measured(path: Path) -> dict[str, object]:
    """What a run's last checkpoint knows, as a row of the table."""
    run = nacre.RunDirectory(path)
    if run.experiment.algorithm_name != "pearl" or run.experiment.settings.context in ("replay", "batch"):
        sys.exit(f"{path} is no run of PEARL whose encoder has a context buffer; name one of ant-goal.")
    state, family = load_state(run), run.experiment.family
    settings = dataclasses.replace(run.experiment.settings, exploration="prior")
    train, test = run.tasks.train, run.tasks.test
    lanes, number = jnp.arange(num_tasks(train)), num_tasks(train)
    contexts = (draw_context(state.context_buffer, lanes, jax.random.key(i), family, settings) for i in range(CONTEXTS))
    believed = [pearl.infer_posterior(state.networks.encoder, one, settings) for one in contexts]
    means = np.stack([one.mean for one in believed])  # [context, task, latent]
    goals, test_goals = numbers(train), numbers(test)
    kept = number - max(1, number // 5)
    probe = Probe(np.concatenate(means[:, :kept]), np.tile(goals[:kept], (CONTEXTS, 1)))

    agent, params = pearl.make_agent(family, settings), pearl.agent_params(state)
    memory = begin(agent, params, train, jax.random.key(1))._replace(z=jnp.asarray(means[0]))
    informed = episode(family, agent, params, memory, train, jax.random.key(2), explore=False)[1]
    played = list(trial(family, agent, params, test, jax.random.key(3), settings.num_exploration_episodes + 1))
    whole = Probe(np.concatenate(means), np.tile(goals, (CONTEXTS, 1)))
    scored = pearl.belief(played[-1].memory_before, settings)
    return {
        "run": path.name, "updates": int(state.grad_steps), "discount": settings.discount,
        "critics": settings.num_critics, "kl_weight": settings.kl_weight,
        "spread_of_belief_means": f"{means[0].std(axis=0).mean():.2f}",
        "std_of_beliefs": f"{np.sqrt(believed[0].variance).mean():.3f}",
        "error_without_z_train": f"{squared(goals - goals.mean(axis=0)):.2f}",
        "error_of_held_out_train_tasks": f"{squared(probe(means[0, kept:]) - goals[kept:]):.2f}",
        "error_without_z_test": f"{squared(test_goals - goals.mean(axis=0)):.2f}",
        "error_in_scored_episode": f"{squared(whole(np.asarray(scored.mean)) - test_goals):.2f}",
        "return_of_train_tasks": f"{informed.returns().mean():.1f}",
        "return_of_first_episode": f"{played[0].episode.returns().mean():.1f}",
        "return_of_scored_episode": f"{played[-1].episode.returns().mean():.1f}",
        "way_of_first_episode": f"{way(played[0].episode):.2f}",
        "way_of_scored_episode": f"{way(played[-1].episode):.2f}",
    }  # fmt: skip


class Probe:
    """A ridge regression of the task on random features of z."""

    def __init__(self, z: np.ndarray, target: np.ndarray):
        rng = np.random.default_rng(0)
        self._mean, self._scale, self._middle = z.mean(axis=0), z.std(axis=0) + 1e-6, target.mean(axis=0)
        self._waves, self._phases = rng.normal(size=(z.shape[1], FEATURES)), rng.uniform(0, 2 * np.pi, FEATURES)
        x = self._features(z)
        self._weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (target - self._middle))

    def __call__(self, z: np.ndarray) -> np.ndarray:
        return self._features(z) @ self._weights + self._middle

    def _features(self, z: np.ndarray) -> np.ndarray:
        z = (z - self._mean) / self._scale
        return np.concatenate([np.ones((len(z), 1)), z, np.cos(0.7 * z @ self._waves + self._phases)], axis=1)


def numbers(tasks: Tasks) -> np.ndarray:
    """Tasks as rows of numbers."""
    return np.concatenate([np.asarray(values).reshape(num_tasks(tasks), -1) for values in tasks.values()], axis=1)


def squared(error: np.ndarray) -> float:
    """The mean over rows of the squares' sum."""
    return float((error**2).sum(axis=-1).mean())


def way(played: Episode) -> float:
    """Mean distance from the origin at the end, in the units of the first two numbers of an observation (metres)."""
    return float(np.linalg.norm(np.asarray(played.transitions.next_obs)[:, -1, :2], axis=-1).mean())


if __name__ == "__main__":
    main()
