"""What one step of MAESN's adaptation is worth from a task's own latent distribution and from the prior.

    python benchmarks/adaptation.py RUN... > benchmarks/results/maesn-adaptation.csv

In every task 20 episodes before adaptation and 20 after it, actions sampled, as in an iteration of meta-training. A row
for each run, where the episodes before come from (`train own`: the latent distributions of the train tasks; `train
prior`, `test prior`: N(0, I)), and which reward adapts (dense: the training reward; sparse: that of trials).
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import nacre
from nacre.algorithms import maesn
from nacre.families.family import num_tasks, take
from nacre.runs.loading import load_state
from nacre.simulation.rollout import episode
from nacre.types import Tasks

EPISODES = 20
COLUMNS = ("run", "updates", "tasks", "adapts_on", "dense_before", "sparse_before", "dense_after", "sparse_after",
           "adapted_mean", "adapted_std")  # fmt: skip


def main() -> None:
    writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for path in map(Path, sys.argv[1:]):
        agent = nacre.load(path)
        model: maesn.Model = load_state(nacre.RunDirectory(path), with_buffers=False).model
        for name, tasks in (("train own", agent.tasks.train), ("train prior", agent.tasks.train),
                            ("test prior", agent.tasks.test)):  # fmt: skip
            latents = model.latents if name == "train own" else prior(model, num_tasks(tasks))
            for reward in ("dense", "sparse"):
                row = {"run": path.name, "updates": agent.grad_steps, "tasks": name, "adapts_on": reward}
                writer.writerow(row | adapted(agent, model, tasks, latents, reward))


def prior(model: maesn.Model, number: int) -> maesn.Latent:
    """N(0, I) for so many tasks."""
    return jax.tree.map(lambda x: jnp.zeros((number, *x.shape)), model.step_sizes)


def adapted(
    agent: nacre.TrainedAgent, model: maesn.Model, tasks: Tasks, latents: maesn.Latent, reward: str
) -> dict[str, str]:
    """Returns before and after one step on these episodes, and where the latent distributions come to."""
    discount = agent.experiment.settings.discount ** np.arange(agent.family.horizon)
    keys = jax.random.split(jax.random.key(1), 4)
    before = played(agent, model, tasks, latents, keys[:2])
    returns = (before[1][reward] * discount).sum(axis=-1)

    def adapt(latent: maesn.Latent, z: jax.Array, returns: jax.Array) -> maesn.Latent:
        return maesn.adapt(latent, z, returns, jnp.ones(EPISODES, bool), model.step_sizes)

    after = jax.vmap(adapt)(latents, before[0], jnp.asarray(returns))
    found = played(agent, model, tasks, after, keys[2:])[1]
    numbers = {f"{name}_before": before[1][name].sum(axis=-1).mean() for name in found}
    numbers |= {f"{name}_after": found[name].sum(axis=-1).mean() for name in found}
    numbers |= {"adapted_mean": jnp.abs(after.mean).mean(), "adapted_std": jnp.exp(after.log_std).mean()}
    return {name: f"{float(value):.3f}" for name, value in numbers.items()}


def played(
    agent: nacre.TrainedAgent, model: maesn.Model, tasks: Tasks, latents: maesn.Latent, keys: jax.Array
) -> tuple[jax.Array, dict[str, np.ndarray]]:
    """z [task, episode, latent_dim] of as many episodes in every task, and their rewards [task, episode, time]."""
    number = num_tasks(tasks)
    noise = jax.random.normal(keys[0], (number, EPISODES, latents.mean.shape[-1]))
    z = maesn.draw_z(jax.tree.map(lambda x: x[:, None], latents), noise)
    lanes = take(tasks, np.repeat(np.arange(number), EPISODES))
    flat, acting = z.reshape(-1, z.shape[-1]), maesn._latent_agent()
    transitions = episode(agent.family, acting, model.policy, flat, lanes, keys[1], explore=True)[1].transitions
    rewards = {"dense": transitions.training_reward, "sparse": transitions.reward}
    return z, {name: np.asarray(value).reshape(number, EPISODES, -1) for name, value in rewards.items()}


if __name__ == "__main__":
    main()
