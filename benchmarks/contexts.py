"""How well PEARL's encoder can tell a speed, and from how many contexts it learns to: by regression on the true speed.

    python benchmarks/contexts.py runs/cheetah-vel/pearl/seed-0

Plays episodes of a trained policy, z from the prior, on new tasks of cheetah-vel; trains the run's encoder anew on the
mean squared error of one dimension of z against the task's speed, with contexts drawn in each of several ways; and
prints the mean error in m/s of its belief about 200 further tasks after two fresh episodes each, as in a trial.
About a minute a row on one core.
"""

from __future__ import annotations

import argparse
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import nacre
from nacre.algorithms import pearl
from nacre.learning.networks import MLP
from nacre.simulation import rollout

CONTEXT, TASKS_PER_UPDATE, TRIAL = 128, 8, 400
CENTRE, SCALE = 1.5, 0.75
"""The regression's target is (speed - CENTRE) / SCALE, about as wide as the prior."""


class Way(NamedTuple):
    """A way to draw contexts: so many tasks with so many episodes each, out of `window` transitions in a row."""

    tasks: int
    episodes: int
    window: int
    in_order: bool = False
    steps: int = 10_000


WAYS = (
    Way(50, 2, TRIAL), Way(100, 2, TRIAL), Way(1000, 2, TRIAL), Way(50, 16, 3200),
    Way(50, 16, CONTEXT, in_order=True), Way(50, 6, TRIAL), Way(50, 16, TRIAL),
)  # fmt: skip


def play(agent: nacre.TrainedAgent, speed: np.ndarray, episodes: int, key: Any, explore: bool) -> np.ndarray:
    """What the encoder sees of fresh episodes with z from the prior, [task, episodes * 200, features].

    Actions are stochastic with `explore`, as in meta-training's collection; a trial's are not.
    """
    family, config, task = agent.experiment.family, agent.experiment.settings, {"velocity": speed}
    blind = pearl.make_agent(family, config.of_collection())._replace(observe=lambda params, memory, transition: memory)
    seen = []
    for each in jax.random.split(key, episodes):
        begin_key, episode_key = jax.random.split(each)
        memory = rollout.begin(blind, agent.params, task, begin_key)
        _, played = rollout.episode(family, blind, agent.params, memory, task, episode_key, explore=explore)
        seen.append(np.asarray(pearl.what_is_seen(played.transitions, config)))
    return np.concatenate(seen, axis=1)


def infer(encoder: MLP, seen: Any, config: Any) -> Any:
    """The belief from what is seen, [task, context, features]."""
    factors = pearl.as_factors(encoder(seen), config)
    return pearl.posterior(pearl.Factors(*(x.sum(axis=-2) for x in factors)), config)


def fit(way: Way, encoder: MLP, config: Any, seen: np.ndarray, speed: np.ndarray) -> MLP:
    """The encoder after training on contexts that are drawn in this way."""
    adam = optax.adam(optax.cosine_decay_schedule(1e-3, way.steps, 0.05))
    target = jnp.asarray((speed - CENTRE) / SCALE)

    def loss(encoder: MLP, context: Any, target: Any, noise: Any) -> Any:
        return jnp.mean((pearl.sample_z(infer(encoder, context, config), noise)[:, 0] - target) ** 2)

    def step(learner: Any, key: Any, data: Any) -> tuple[Any, None]:
        task_key, start_key, offset_key, noise_key = jax.random.split(key, 4)
        task = jax.random.randint(task_key, (TASKS_PER_UPDATE,), 0, way.tasks)
        start = jax.random.randint(start_key, (TASKS_PER_UPDATE, 1), 0, data.shape[1] - way.window + 1)
        offset = jax.random.randint(offset_key, (TASKS_PER_UPDATE, CONTEXT), 0, way.window)
        at = start + (jnp.arange(CONTEXT) if way.in_order else offset)
        noise = jax.random.normal(noise_key, (TASKS_PER_UPDATE, config.latent_dim))
        gradient = jax.grad(loss)(learner[0], data[task[:, None], at], target[task], noise)
        change, state = adam.update(gradient, learner[1])
        return (optax.apply_updates(learner[0], change), state), None

    @jax.jit
    def train(encoder: MLP, data: Any) -> MLP:
        keys = jax.random.split(jax.random.key(1), way.steps)
        return jax.lax.scan(functools.partial(step, data=data), (encoder, adam.init(encoder)), keys)[0][0]

    return train(encoder, jnp.asarray(seen))


def main(arguments: list[str] | None = None, ways: tuple[Way, ...] = WAYS, num_test: int = 200) -> None:
    """Reads the command line, prints a row for every way as it is measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run directory of a trained PEARL on cheetah-vel")
    agent = nacre.load(parser.parse_args(arguments).run)
    family, config = agent.experiment.family, agent.experiment.settings
    if family.name != "cheetah-vel" or getattr(config, "encoder", None) != "product":
        parser.error("the run is not PEARL on cheetah-vel with a product of factors; choose another")
    draw = functools.partial(np.random.default_rng(0).uniform, 0.0, 3.0)
    test_speed = draw(num_test)
    test_seen = play(agent, test_speed, 2, jax.random.key(0), explore=False)
    fresh = pearl.init_learner(family.obs_dim, family.action_dim, config, jax.random.key(2))[0].encoder
    print(f"{'tasks':>5} {'episodes':>8} {'window':>6} {'in order':>8} {'updates':>7}  error (m/s)")
    for number, way in enumerate(ways):
        speed = draw(way.tasks)
        seen = play(agent, speed, way.episodes, jax.random.key(number + 3), explore=True)
        encoder = fit(way, fresh, config, seen, speed)
        found = np.asarray(infer(encoder, jnp.asarray(test_seen), config).mean)[:, 0] * SCALE + CENTRE
        error = np.abs(found - test_speed).mean()
        in_order = "yes" if way.in_order else "no"
        print(f"{way.tasks:5} {way.episodes:8} {way.window:6} {in_order:>8} {way.steps:7}  {error:.3f}", flush=True)


if __name__ == "__main__":
    main()
