"""What guards of sessions do in trials of test tasks: `python benchmarks/guards.py RUN... > guards.csv`.

A row a run and cap of a factor's precision: the mean return of the scored episode as it is, and where one transition of
the trial, the sixth, was odd (observation 3 off, reward ten times itself). `cap` is the quantile of the factors in
train tasks; empty where there is none. `observation`, `belief`: the share of steps that trip these guards, margin 0.1.
"""

from __future__ import annotations

import csv
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import nacre
from nacre.deploy.training_statistics import beliefs, statistics
from nacre.simulation import rollout
from nacre.types import Agent, Transition

CAPS = (None, 0.9, 0.75, 0.5, 0.25)
ODD, REPEATS, MARGIN = 5, 4, 0.1


def capped(agent: Agent, most: Any) -> Agent:
    """PEARL's agent with a cap on the precision of every factor."""

    def observe(params: Any, memory: Any, transition: Transition) -> Any:
        after = agent.observe(params, memory, transition)
        added = after.factors.precision - memory.factors.precision
        share = jnp.where(added > most, most / jnp.maximum(added, most), 1.0)
        factors = jax.tree.map(lambda old, new: old + share * (new - old), memory.factors, after.factors)
        return after._replace(factors=factors)

    return agent._replace(observe=observe)


def with_one_odd(agent: Agent) -> Agent:
    """The agent, told of one transition something else than what happened."""

    def observe(params: Any, memory: Any, transition: Transition) -> Any:
        is_odd = memory.num_transitions == ODD
        obs = jnp.where(is_odd[:, None], transition.obs + 3.0, transition.obs)
        reward = jnp.where(is_odd, 10.0 * transition.reward, transition.reward)
        return agent.observe(params, memory, transition._replace(obs=obs, reward=reward))

    return agent._replace(observe=observe)


def rows(path: str) -> list[dict[str, Any]]:
    agent = nacre.load(path)
    family, tasks, params, episodes = agent.family, agent.tasks, agent.params_for(agent.trials), agent.trials.episodes
    key = jax.random.key(0)
    seen = statistics(family, agent.functions, params, tasks.train, key, episodes, agent.believes)
    played = list(rollout.trial(family, agent.functions, params, tasks.train, key, episodes))
    added = np.concatenate(
        [np.diff(beliefs(agent.functions, params, one, agent.believes).precision, axis=1) for one in played]
    )
    tripped = {"observation": [], "belief": []}
    for one in rollout.trial(family, agent.functions, params, tasks.test, jax.random.key(1), episodes):
        believed = beliefs(agent.functions, params, one, agent.believes).mean
        for name, values in (("observation", one.episode.transitions.next_obs), ("belief", believed)):
            low, high = (np.array(seen[{"observation": "obs"}.get(name, name)][end]) for end in ("low", "high"))
            more = MARGIN * (high - low)
            tripped[name].append(((values < low - more) | (values > high + more)).any(axis=-1))
    shares = {name: f"{np.mean(parts):.4f}" for name, parts in tripped.items()}
    result = []
    for cap in CAPS:
        most = jnp.asarray(np.quantile(added, cap, axis=(0, 1)), jnp.float32) if cap else None
        own = agent.functions if most is None else capped(agent.functions, most)

        def scored(functions: Agent) -> str:
            returns = rollout.evaluate(family, tasks.test, functions, params, jax.random.key(1), episodes, REPEATS)
            return f"{rollout.score(returns):.3f}"

        row = {"run": path, "cap": "" if cap is None else cap, "as_it_is": scored(own)}
        result.append(row | {"one_odd": scored(with_one_odd(own))} | shares)
    return result


if __name__ == "__main__":
    writer = None
    for path in sys.argv[1:]:
        for row in rows(path):
            if writer is None:
                writer = csv.DictWriter(sys.stdout, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow(row)
            sys.stdout.flush()
