"""How fast nacre is on this machine: an update, collection, an evaluation, one acting session, a meta-iteration.

What a figure is compared with is measured beside it, in turns, so that whatever else the machine does slows both alike.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import gymnasium
import jax
import jax.numpy as jnp
import mujoco
import numpy as np

from nacre import actor_critic, rollout
from nacre import replay as rings
from nacre.agent import Session, TrainedAgent
from nacre.algorithms import pearl
from nacre.collection import Phases
from nacre.compilation_cache import num_cores
from nacre.config import Experiment, resolve
from nacre.errors import NacreError, unknown
from nacre.families.family import Family, JaxFamily, MujocoFamily, num_tasks
from nacre.networks import product
from nacre.presets.pearl import PearlConfig
from nacre.robots import load_model
from nacre.simulators import jax as jax_lanes
from nacre.types import Tasks

Result = dict[str, float | int | str]

ROUNDS = 7
"""Measurements of each figure, in turns with those of its ceiling, after one that compiles; the median counts."""
UPDATES_PER_ROUND = 10
CEILING_FLOPS = 5e8
"""Least work of a timed product, about: one of [4096, 300] x [300, 300] is 7e8."""
SCALING_TASKS = (10, 100, 1_000, 10_000)
CONTROL_STEPS_PER_ROUND = 10_000
"""Control steps of all lanes together, rounded up to whole episodes."""
ACTING_STEPS = 2_000
"""Steps of the acting session that are timed, once near its beginning and once in its long context."""
LONG_CONTEXT = 10_000
"""Transitions the session has seen when it is timed for the second time."""
ITERATION_ROUNDS = 3
"""Meta-iterations that are timed, after one that compiles; the median counts."""


def run(
    what: str, family: str, preset: str, lanes: int = 64, seeds: int = 1, precision: str | None = None,
    algorithm: str = "promp",
) -> Result:  # fmt: skip
    """Times one part of PEARL with the sizes of a preset, or a meta-iteration of any method.

    `lanes`: simulations side by side, for 'collect' and 'simulation'. `seeds`: learners side by side, for 'update'.
    `precision`: of the products, for 'update' and 'scaling'; the preset's unless given. `algorithm`: for 'iteration'.

    The figures, by name, after what was measured and on which machine:

    update    ms_per_update, of all seeds together; flops_per_update (`update_flops`), likewise; ceiling_flops_per_s,
              the machine's rate in products of the update's most frequent shape, in the same precision;
              fraction_of_ceiling, of the rate in the same round; seeds; precision.
    scaling   ms_per_update_N with replay of N train tasks for N of 10, 100, 1000 and 10000, in turns; slowest_over_
              fastest of these; kilobytes_per_task, what a train task's initial collection takes of both buffers.
    collect   control_steps_per_s with the policy in the loop, lanes; on MuJoCo also physics_only_steps_per_s (random
              actions, no policy) and fraction_of_physics. Both count the steps until a robot falls, and make no others.
    simulation  what stepping costs without a policy: physics_only_steps_per_s, control steps of all lanes, fallen or
              not. On MuJoCo also mj_step_steps_per_s, of a loop of mj_step on one core times the cores, and
              fraction_of_mj_step; async_vector_env_steps_per_s, of Gymnasium's AsyncVectorEnv of that robot, with as
              many lanes and the family's model step, and times_async_vector_env.
    evaluate  seconds of one evaluation of the preset's test tasks, repeats and episodes once compiled; control_steps.
    act       microseconds_p50 and microseconds_p99 of a session's step (action plus belief update) on one core, and the
              same with a context of 10,000 transitions (microseconds_p50_long_context, ..._p99_...).
    iteration seconds of one meta-iteration, evaluation left out; collection_seconds, in which episodes are played, and
              update_seconds, the rest; control_steps and updates in it; control_steps_per_s of the collection, policy
              included; lanes, the most side by side; algorithm.

    Raises NacreError for an unknown name and for lanes below 1.
    """
    benchmarks: dict[str, Callable[[Experiment], Result]] = {
        "update": functools.partial(_update, seeds=seeds), "scaling": _scaling,
        "collect": functools.partial(_collect, lanes=lanes),
        "simulation": functools.partial(_simulation, lanes=lanes), "evaluate": _evaluate, "act": _act,
        "iteration": _iteration,
    }  # fmt: skip
    if what not in benchmarks:
        raise unknown("benchmark", what, benchmarks)
    for name, number in (("lanes", lanes), ("seeds", seeds)):
        if number < 1:
            raise NacreError(f"{name} is {number}, but must be at least 1; change --{name}.")
    method = algorithm if what == "iteration" else "pearl"
    experiment = resolve(method, family, preset, **({} if precision is None else {"precision": precision}))
    figures = benchmarks[what](experiment)
    machine = {"device": jax.devices()[0].device_kind, "cpu_threads": num_cores(), "jax": jax.__version__}
    return {"benchmark": what, "family": family, "preset": preset, **machine, **figures}


# ----------------------------------------------------------------------------------------------------------------------
# The update, against the machine's matrix products


def update_flops(obs_dim: int, action_dim: int, config: PearlConfig) -> int:
    """Floating-point operations of the matrix products that one update needs: 2mnk for [m, k] x [k, n].

    Forward products of every network that a loss reads; weight gradients of the network that it trains; gradients of a
    layer's input wherever something below is to be trained: not below a first layer, except towards z in the critic
    loss and towards the action in the policy loss. z enters a first layer once per task, not once per transition.
    Element-wise work (ReLU, tanh, Adam) is left out.

    At cheetah-vel's paper sizes 26.7e9, of which 25.1e9 are 34 products [4096, 300] x [300, 300]. With the encoder as
    wide as the other networks it would be 27.7e9; the paper's has 200 units.
    """
    c, hidden = config, config.hidden_dim
    rows, context_rows = c.meta_batch * c.batch_size, c.meta_batch * c.context_batch_size

    def upper(out_dim: int, width: int = hidden) -> int:
        """Multiplications a row in all layers but the first."""
        return (c.num_hidden_layers - 1) * width * width + width * out_dim

    obs, obs_action, action = obs_dim * hidden, (obs_dim + action_dim) * hidden, action_dim * hidden
    seen = (obs_dim * (2 if c.use_next_obs_in_context else 1) + action_dim + 1) * c.encoder_hidden_dim
    encoded = upper(c.latent_dim * (2 if c.use_information_bottleneck else 1), c.encoder_hidden_dim)
    q = c.num_critics
    if c.use_value_network:  # V's target forward; V
        target, value_step, z_target = obs + upper(1), 2 * obs + 3 * upper(1), 1 + 2
    else:  # pi and the slow critics forward
        target, value_step, z_target = (obs + upper(2 * action_dim)) + q * (obs_action + upper(1)), 0, 1 + q
    critic_step = target + q * (2 * obs_action + 3 * upper(1))
    policy_step = (2 * obs + 3 * upper(2 * action_dim)) + q * (obs_action + action + 2 * upper(1))
    # z's share of the first layers: the above; the critics in both losses, pi; forward, weight and z gradients.
    z = (z_target + q * 3 + 2 + q * 1) * c.latent_dim * hidden
    encoder = 2 * seen + 3 * encoded
    return 2 * (rows * (critic_step + policy_step + value_step) + context_rows * encoder + c.meta_batch * z)


def _update(experiment: Experiment, seeds: int) -> Result:
    """Blocks of updates on transitions that a fresh policy collected, in turns with the ceiling's products."""
    family, paper = experiment.family, experiment.settings
    # A short run sizes and fills the buffers, smaller than a real one; an update's own sizes are the preset's.
    config = dataclasses.replace(paper, iterations=1, num_initial_steps=min(paper.num_initial_steps, 200))
    states = [pearl.init(family, config, seed) for seed in range(seeds)]
    everything, phases = np.tile(np.arange(config.num_train_tasks), (seeds, 1)), Phases(prior=config.num_initial_steps)
    states = pearl.collect(family, config, experiment.draw_tasks().train, states, everything, phases)
    flops = seeds * update_flops(family.obs_dim, family.action_dim, config)
    ceiling = _product_rate(config.meta_batch * config.batch_size, config.hidden_dim, config.precision)
    update = _update_seconds(states, config, family.obs_dim)

    seconds, ceilings = [], []
    for _ in range(ROUNDS):
        seconds.append(update())
        ceilings.append(ceiling())
    return {
        "ms_per_update": 1e3 * float(np.median(seconds)),
        "flops_per_update": flops,
        "ceiling_flops_per_s": float(np.median(ceilings)),
        "fraction_of_ceiling": float(np.median(flops / np.array(seconds) / np.array(ceilings))),
        "seeds": seeds,
        "precision": config.precision,
    }


def _update_seconds(states: list[pearl.State], config: PearlConfig, obs_dim: int) -> Callable[[], float]:
    """A function that measures seconds per update of all states together, compiled already."""

    def measure() -> float:
        nonlocal states
        started = time.perf_counter()
        states, metrics = pearl.train(states, config, obs_dim, UPDATES_PER_ROUND)
        jax.block_until_ready(([(state.networks, state.optimisers) for state in states], metrics))
        return (time.perf_counter() - started) / UPDATES_PER_ROUND

    measure()
    return measure


def _scaling(experiment: Experiment) -> Result:
    """The update with replay of few and of many train tasks; made-up transitions, as many a task."""
    family, preset = experiment.family, experiment.settings
    updates: dict[int, Callable[[], float]] = {}
    for num_train in SCALING_TASKS:
        config = dataclasses.replace(preset, num_train_tasks=num_train, iterations=1, num_initial_steps=rings.PAGE)
        sizes = (num_train, rings.PAGE, num_train * rings.PAGE, family.obs_dim, family.action_dim)
        networks, optimisers = actor_critic.init_learner(family.obs_dim, family.action_dim, config, jax.random.key(0))
        buffers = [_made_up_replay(rings.empty(*sizes), seed) for seed in range(2)]
        counters = (jax.random.key(0), np.int64(0), np.int64(0), np.int64(0))
        state = pearl.State(networks, optimisers, buffers[0], buffers[1], *counters)
        updates[num_train] = _update_seconds([state], config, family.obs_dim)
    seconds = np.array([[update() for update in updates.values()] for _ in range(ROUNDS)])
    result: Result = {
        f"ms_per_update_{number}": 1e3 * float(each)
        for number, each in zip(updates, np.median(seconds, axis=0), strict=True)
    }
    result["slowest_over_fastest"] = float(np.median(seconds.max(axis=1) / seconds.min(axis=1)))
    transitions = -(-preset.num_initial_steps // rings.PAGE) * rings.PAGE
    row_bytes = 4 * rings.row_width(family.obs_dim, family.action_dim)
    result["kilobytes_per_task"] = 2 * transitions * row_bytes / 1e3
    return result


def _made_up_replay(empty: rings.Replay, seed: int) -> rings.Replay:
    """Rings of one page each, full of random numbers; the pages lie in the pool in random order."""
    num_rings, order = len(empty.pages), np.random.default_rng(seed).permutation(len(empty.pages))
    return empty._replace(
        pool=jax.random.normal(jax.random.key(seed), empty.pool.shape),
        pages=jnp.asarray(order[:, None], jnp.int32),
        written=jnp.full(num_rings, rings.PAGE, jnp.int32),
        pages_taken=jnp.ones(num_rings, jnp.int32),
        next_page=jnp.asarray(num_rings, jnp.int32),
    )


def _product_rate(rows: int, width: int, precision: str) -> Callable[[], float]:
    """A function that measures operations per second: the best of 5 products [rows, width] x [width, width].

    A product that is over in microseconds is repeated inside the compiled call, so that calling it costs nothing.
    """
    flops = 2 * rows * width * width
    num_products = max(1, round(CEILING_FLOPS / flops))
    x_key, weight_key = jax.random.split(jax.random.key(0))
    x = jax.random.normal(x_key, (rows, width))
    weight = jax.random.normal(weight_key, (width, width)) / width**0.5

    @jax.jit
    def products(x: jax.Array, weight: jax.Array) -> jax.Array:
        if num_products == 1:
            return product(x, weight, precision)
        return jax.lax.fori_loop(0, num_products, lambda _, x: product(x, weight, precision), x)

    products(x, weight).block_until_ready()

    def measure() -> float:
        seconds = []
        for _ in range(5):
            started = time.perf_counter()
            products(x, weight).block_until_ready()
            seconds.append(time.perf_counter() - started)
        return num_products * flops / min(seconds)

    return measure


# ----------------------------------------------------------------------------------------------------------------------
# Collection, against physics alone; evaluation


def _collect(experiment: Experiment, lanes: int) -> Result:
    """Whole episodes in every lane, as in meta-training: stochastic actions, z from the prior."""
    family, config = experiment.family, experiment.settings
    # Meta-training takes the belief from the context buffer: no lane observes.
    agent = pearl.make_agent(config)._replace(observe=lambda params, memory, transition: memory)
    params = _untrained(experiment)
    task = family.sample_tasks(np.random.default_rng(0), lanes)
    memory = rollout.begin(agent, params, task, jax.random.key(1))
    num_episodes = -(-CONTROL_STEPS_PER_ROUND // (lanes * family.horizon))
    on_mujoco = isinstance(family, MujocoFamily)
    physics_rate = _physics_rate(family, lanes, num_episodes, until_fallen=True) if on_mujoco else None

    rates, physics_rates = [], []
    for index in range(ROUNDS + 1):
        started, control_steps = time.perf_counter(), 0
        for number in range(num_episodes):
            key = jax.random.fold_in(jax.random.key(2), index * num_episodes + number)
            _, played = rollout.episode(family, agent, params, memory, task, key, explore=True)
            control_steps += int(np.sum(played.length))
        rates.append(control_steps / (time.perf_counter() - started))
        if physics_rate is not None:
            physics_rates.append(physics_rate())
    result: Result = {"control_steps_per_s": float(np.median(rates[1:])), "lanes": lanes}  # the first round compiles
    if physics_rates:
        result["physics_only_steps_per_s"] = float(np.median(physics_rates[1:]))
        result["fraction_of_physics"] = float(np.median(np.array(rates[1:]) / np.array(physics_rates[1:])))
    return result


def _physics_rate(family: Family, lanes: int, num_episodes: int, *, until_fallen: bool) -> Callable[[], float]:
    """A function that measures control steps per second of the lanes under random actions, without a policy.

    `until_fallen`: a lane stands still, and is not counted, from the end of its episode to that of the last one, as in
    collection. Otherwise every lane takes and counts as many steps as the horizon has.
    """
    simulators, rng = rollout.stepped_lanes(family, lanes), np.random.default_rng(0)
    task = family.sample_tasks(rng, lanes)
    actions = rng.uniform(-1.0, 1.0, (family.horizon, lanes, family.action_dim)).astype(np.float32)

    def measure() -> float:
        started, control_steps = time.perf_counter(), 0
        for _ in range(num_episodes):
            simulators.reset(task, rng)
            alive = np.ones(lanes, bool)
            for action in actions:
                stepped = simulators.step(action, task, None if alive.all() else np.flatnonzero(alive))
                control_steps += int(alive.sum())
                if until_fallen:
                    alive &= ~stepped.terminated
                    if not alive.any():
                        break
        return control_steps / (time.perf_counter() - started)

    return measure


def _compiled_rate(family: JaxFamily, lanes: int, num_episodes: int) -> Callable[[], float]:
    """As `_physics_rate`, of a family in JAX: every episode is one compiled scan."""
    task = family.sample_tasks(np.random.default_rng(0), lanes)

    @jax.jit
    def total_reward(key: jax.Array, task: Tasks) -> jax.Array:
        """Of an episode in every lane: all steps have to be taken to know it."""
        reset_key, action_key = jax.random.split(key)
        actions = jax.random.uniform(action_key, (family.horizon, lanes, family.action_dim), minval=-1.0, maxval=1.0)

        def step(state: Any, action: jax.Array) -> tuple[Any, jax.Array]:
            result = jax_lanes.step(family, state, action, task)
            return result.state, result.reward

        return jnp.sum(jax.lax.scan(step, jax_lanes.reset(family, lanes, reset_key)[0], actions)[1])

    def measure() -> float:
        started = time.perf_counter()
        for index in range(num_episodes):
            total_reward(jax.random.key(index), task).block_until_ready()
        return num_episodes * lanes * family.horizon / (time.perf_counter() - started)

    return measure


GYMNASIUM_ROBOTS = {
    "half_cheetah.xml": "HalfCheetah-v5", "ant.xml": "Ant-v5", "humanoid.xml": "Humanoid-v5",
    "walker2d.xml": "Walker2d-v5", "hopper.xml": "Hopper-v5", "reacher.xml": "Reacher-v5",
}  # fmt: skip
"""Gymnasium's environment of each robot description."""


def _simulation(experiment: Experiment, lanes: int) -> Result:
    """Random actions in a family's lanes; on MuJoCo also in a loop of mj_step and in Gymnasium's vector environment."""
    family = experiment.family
    num_episodes = max(1, CONTROL_STEPS_PER_ROUND // (lanes * family.horizon))
    if isinstance(family, JaxFamily):
        physics = _compiled_rate(family, lanes, num_episodes)
    else:
        physics = _physics_rate(family, lanes, num_episodes, until_fallen=False)
    if not isinstance(family, MujocoFamily):
        rates = [physics() for _ in range(ROUNDS + 1)][1:]
        return {"physics_only_steps_per_s": float(np.median(rates)), "lanes": lanes}
    measures = {"physics_only": physics, "mj_step": _mj_step_rate(family)}
    vector = gymnasium.vector.AsyncVectorEnv([functools.partial(_gymnasiums_robot, family)] * lanes)
    try:
        measures["async_vector_env"] = _vector_rate(vector, num_steps=-(-CONTROL_STEPS_PER_ROUND // lanes))
        rounds = [{name: measure() for name, measure in measures.items()} for _ in range(ROUNDS + 1)][1:]
    finally:
        vector.close()
    median = {name: float(np.median([one[name] for one in rounds])) for name in measures}

    def against(name: str) -> float:
        return float(np.median([one["physics_only"] / one[name] for one in rounds]))

    return {
        **{f"{name}_steps_per_s": rate for name, rate in median.items()}, "lanes": lanes,
        "fraction_of_mj_step": against("mj_step"), "times_async_vector_env": against("async_vector_env"),
    }  # fmt: skip


def _gymnasiums_robot(family: MujocoFamily) -> gymnasium.Env:
    """Gymnasium's environment of a family's robot, with the family's model and its time step."""
    env: Any = gymnasium.make(GYMNASIUM_ROBOTS[family.model_file], xml_file=family.model_file)
    if family.model_timestep is not None:
        env.unwrapped.model.opt.timestep = family.model_timestep
    return env


def _mj_step_rate(family: MujocoFamily) -> Callable[[], float]:
    """A function that measures control steps a second of a bare loop of mj_step on one core, times the cores."""
    model = load_model(family.model_file, family.model_timestep, contact_forces=False)
    data, rng = mujoco.MjData(model), np.random.default_rng(0)
    low, high = model.actuator_ctrlrange.T
    actions = rng.uniform(low, high, (family.horizon, model.nu))
    num_episodes = max(1, CONTROL_STEPS_PER_ROUND // (8 * family.horizon))

    def measure() -> float:
        started = time.perf_counter()
        for _ in range(num_episodes):
            mujoco.mj_resetData(model, data)
            for action in actions:
                data.ctrl[:] = action
                mujoco.mj_step(model, data, family.frame_skip)
        return num_cores() * num_episodes * family.horizon / (time.perf_counter() - started)

    return measure


def _vector_rate(vector: gymnasium.vector.VectorEnv, num_steps: int) -> Callable[[], float]:
    """A function that measures steps a second of all environments of a vector, under random actions."""
    vector.reset(seed=0)
    actions = [vector.action_space.sample() for _ in range(num_steps)]

    def measure() -> float:
        started = time.perf_counter()
        for action in actions:
            vector.step(action)
        return vector.num_envs * num_steps / (time.perf_counter() - started)

    return measure


def _evaluate(experiment: Experiment) -> Result:
    """Trials of an untrained agent in all test tasks, side by side, as after every meta-iteration."""
    family, config = experiment.family, experiment.settings
    tasks, agent, params = experiment.draw_tasks().test, pearl.make_agent(config), _untrained(experiment)
    sizes = (config.num_evaluation_episodes, config.num_evaluation_repeats)
    seconds = []
    for index in range(ROUNDS + 1):
        started = time.perf_counter()
        returns = rollout.evaluate(family, tasks, agent, params, jax.random.key(index), *sizes)
        seconds.append(time.perf_counter() - started)
    return {"seconds": float(np.median(seconds[1:])), "control_steps": returns.size * family.horizon}  # first: compiles


# ----------------------------------------------------------------------------------------------------------------------
# A meta-iteration of any method


def _iteration(experiment: Experiment) -> Result:
    """Meta-iterations of a new run, as training goes through them."""
    family, algorithm, settings = experiment.family, experiment.algorithm, experiment.settings
    changes = {"iterations": ITERATION_ROUNDS + 1}
    if hasattr(settings, "num_initial_steps"):  # which are collected before the first iteration
        changes["num_initial_steps"] = min(settings.num_initial_steps, 200)
    config = dataclasses.replace(settings, **changes)
    state = algorithm.init(family, config, 0)
    blocks = algorithm.meta_train(family, config, experiment.draw_tasks(), [state])
    rounds, lanes = [], 0
    with _watched_episodes() as played:
        for number in range(ITERATION_ROUNDS + 1):
            played.clear()
            started, steps_before = time.perf_counter(), int(state.env_steps)
            while state.meta_iterations == number:
                (state,), metrics = next(blocks)
                jax.block_until_ready((state, metrics))
            seconds, collecting = time.perf_counter() - started, sum(one for one, _ in played)
            control_steps = int(state.env_steps) - steps_before
            if control_steps == 0:
                raise NacreError(
                    f"{experiment.algorithm_name} neither collects nor learns; choose another --algorithm."
                )
            lanes = max(side_by_side for _, side_by_side in played)
            rounds.append((seconds, collecting, seconds - collecting, control_steps, control_steps / collecting))
    seconds, collecting, updating, control_steps, rate = np.median(rounds[1:], axis=0).tolist()  # the first compiles
    return {
        "algorithm": experiment.algorithm_name, "seconds": seconds, "collection_seconds": collecting,
        "update_seconds": updating, "control_steps": int(control_steps),
        "updates": config.num_train_steps_per_iteration, "control_steps_per_s": rate, "lanes": lanes,
    }  # fmt: skip


@contextmanager
def _watched_episodes() -> Iterator[list[tuple[float, int]]]:
    """For a while, every call that plays episodes leaves what it took here: (seconds, lanes side by side)."""
    played: list[tuple[float, int]] = []

    def watched(play: Callable[..., Any]) -> Callable[..., Any]:
        def timed(family: Family, agent: Any, params: Any, memory: Any, task: Tasks, *args: Any, **options: Any) -> Any:
            jax.block_until_ready((params, memory))  # what learning still computes is not collection's
            started = time.perf_counter()
            result = jax.block_until_ready(play(family, agent, params, memory, task, *args, **options))
            played.append((time.perf_counter() - started, num_tasks(task)))
            return result

        return timed

    originals = {name: getattr(rollout, name) for name in ("_compiled_episode", "_stepped_episode")}
    try:
        for name, play in originals.items():
            setattr(rollout, name, watched(play))
        yield played
    finally:
        for name, play in originals.items():
            setattr(rollout, name, play)


# ----------------------------------------------------------------------------------------------------------------------
# Acting, on one core


def _act(experiment: Experiment) -> Result:
    """Random observations and rewards: what they are does not change what a step costs."""
    family, rng = experiment.family, np.random.default_rng(0)
    session = TrainedAgent(experiment, experiment.draw_tasks(), _untrained(experiment)).session()
    with _one_core():
        _step_microseconds(session, family, rng, 100)  # compiles
        early = _step_microseconds(session, family, rng, ACTING_STEPS)
        _step_microseconds(session, family, rng, LONG_CONTEXT - session.num_steps)
        late, cpu_threads = _step_microseconds(session, family, rng, ACTING_STEPS), num_cores()
    return {
        "microseconds_p50": float(np.percentile(early, 50)),
        "microseconds_p99": float(np.percentile(early, 99)),
        "microseconds_p50_long_context": float(np.percentile(late, 50)),
        "microseconds_p99_long_context": float(np.percentile(late, 99)),
        "long_context": LONG_CONTEXT,
        "cpu_threads": cpu_threads,
    }


def _step_microseconds(session: Session, family: Family, rng: np.random.Generator, num_steps: int) -> np.ndarray:
    """Takes `num_steps` steps; the microseconds of each, from an observation to its action and on to the new belief."""
    observations = rng.standard_normal((num_steps + 1, family.obs_dim)).astype(np.float32)
    rewards, microseconds = rng.standard_normal(num_steps), np.empty(num_steps)
    for index in range(num_steps):
        started = time.perf_counter()
        session.act(observations[index])
        session.observe(observations[index + 1], rewards[index])
        jax.block_until_ready(session.memory)
        microseconds[index] = 1e6 * (time.perf_counter() - started)
        if session.num_steps % family.horizon == 0:
            session.end_episode()
            jax.block_until_ready(session.memory)
    return microseconds


@contextmanager
def _one_core() -> Iterator[None]:
    """Confines every thread of this process, JAX's included, to one core for a while, where the system can do that."""
    if sys.platform != "linux":
        yield
        return
    allowed = os.sched_getaffinity(0)
    try:
        _confine({max(allowed)})
        yield
    finally:
        _confine(allowed)


def _confine(cores: set[int]) -> None:
    """Lets every thread of this process run on these cores only."""
    if sys.platform == "linux":
        for thread in os.listdir("/proc/self/task"):
            with suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), cores)


def _untrained(experiment: Experiment) -> pearl.Params:
    family, config = experiment.family, experiment.settings
    networks = actor_critic.init_networks(family.obs_dim, family.action_dim, config, jax.random.key(0))
    return pearl.Params(networks.encoder, networks.policy)
