"""Collection and simulation, against physics alone and Gymnasium's vector environment; evaluation."""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, cast

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from nacre.algorithms import pearl
from nacre.benchmark import sizes
from nacre.benchmark.result import Result, made_up_hypotheses, untrained
from nacre.families.family import Family, JaxFamily, MujocoFamily
from nacre.families.load_mujoco import mujoco
from nacre.families.robots import quietly
from nacre.presets.pearl import PearlSettings
from nacre.runs.compilation_cache import num_cores
from nacre.runs.experiment import Experiment
from nacre.simulation import jax as jax_lanes
from nacre.simulation import rollout
from nacre.simulation.lanes import is_compiled, make_lanes
from nacre.simulation.mujoco import MujocoLanes, SerialEngine
from nacre.types import Tasks


def collect(experiment: Experiment, lanes: int) -> Result:
    """Whole episodes in every lane, as in meta-training: stochastic actions, z from the prior."""
    family, config = experiment.family, experiment.settings
    assert isinstance(config, PearlSettings)
    agent = pearl.procedure(family, config).agent
    params = untrained(experiment)
    task = family.sample_tasks(np.random.default_rng(0), lanes)
    memory = rollout.begin(agent, params, task, jax.random.key(1))
    num_episodes = -(-sizes.CONTROL_STEPS_PER_ROUND // (lanes * family.horizon))
    on_mujoco = isinstance(family, MujocoFamily)
    physics_rate = _physics_rate(family, lanes, num_episodes, until_fallen=True) if on_mujoco else None

    rates, physics_rates = [], []
    for index in range(sizes.ROUNDS + 1):
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
    simulators, rng = make_lanes(family, lanes), np.random.default_rng(0)
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


GYMNASIUM_ROBOTS: dict[object, str] = {
    "half_cheetah.xml": "HalfCheetah-v5", "ant.xml": "Ant-v5", "humanoid.xml": "Humanoid-v5",
    "walker2d.xml": "Walker2d-v5", "hopper.xml": "Hopper-v5", "reacher.xml": "Reacher-v5",
}  # fmt: skip
"""Gymnasium's environment of each robot description; a robot of your own has none."""


def simulation(experiment: Experiment, lanes: int) -> Result:
    """Random actions in a family's lanes; on MuJoCo also in a loop of mj_step and in Gymnasium's vector environment."""
    family = experiment.family
    num_episodes = max(1, sizes.CONTROL_STEPS_PER_ROUND // (lanes * family.horizon))
    if is_compiled(family):
        physics = _compiled_rate(family, lanes, num_episodes)
    else:
        physics = _physics_rate(family, lanes, num_episodes, until_fallen=False)
    if not isinstance(family, MujocoFamily):
        rates = [physics() for _ in range(sizes.ROUNDS + 1)][1:]
        return {"physics_only_steps_per_s": float(np.median(rates)), "lanes": lanes}
    measures = {"physics_only": physics, "mj_step": _mj_step_rate(family, lanes)}
    measures["mj_step_at_once"] = _mj_step_rate(family, lanes, num_loops=min(lanes, num_cores()))
    if family.needs_contact_forces:
        measures["same_work"] = _mj_step_rate(family, lanes, contact_forces=True)
    with ExitStack() as stack:
        if type(family).model_file in GYMNASIUM_ROBOTS:
            vector = _gymnasiums_lanes(family, lanes)
            stack.callback(vector.close)
            measures["async_vector_env"] = _vector_rate(vector, num_steps=-(-sizes.CONTROL_STEPS_PER_ROUND // lanes))
        rounds = [{name: measure() for name, measure in measures.items()} for _ in range(sizes.ROUNDS + 1)][1:]
    median = {name: float(np.median([one[name] for one in rounds])) for name in measures}

    def against(name: str) -> float:
        return float(np.median([one["physics_only"] / one[name] for one in rounds]))

    compared = {
        "mj_step": "fraction_of_mj_step", "mj_step_at_once": "fraction_of_mj_step_at_once",
        "same_work": "fraction_of_same_work", "async_vector_env": "times_async_vector_env",
    }  # fmt: skip
    return {
        **{f"{name}_steps_per_s": rate for name, rate in median.items()}, "lanes": lanes,
        **{compared[name]: against(name) for name in measures if name in compared},
    }  # fmt: skip


def _gymnasiums_lanes(family: MujocoFamily, lanes: int) -> gymnasium.vector.VectorEnv:
    """A process for each lane, forked: JAX, which warns of it, is not used there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*fork\(\)")
        return gymnasium.vector.AsyncVectorEnv([functools.partial(_gymnasiums_robot, family)] * lanes)


def _gymnasiums_robot(family: MujocoFamily) -> gymnasium.Env:
    """Gymnasium's environment of a family's robot, with the family's model and its time step."""
    name = str(type(family).model_file)
    with quietly():
        env: Any = gymnasium.make(GYMNASIUM_ROBOTS[name], xml_file=name)
    if family.model_timestep is not None:
        env.unwrapped.model.opt.timestep = family.model_timestep
    return env


def _mj_step_rate(
    family: MujocoFamily, num_robots: int, *, num_loops: int = 1, contact_forces: bool = False
) -> Callable[[], float]:
    """A function that measures control steps a second of a bare loop of mj_step on one core, times the cores.

    It steps robots like the lanes', with starts, parameters and random actions of their own, an episode of each after
    that of the one before. `num_loops`: as many loops at once, each in a thread, share what a CPU's cores have in
    common. `contact_forces`: the loop also computes those of the new state: one more mj_forward a control step.
    """
    rng = np.random.default_rng(0)
    robots = MujocoLanes(family, num_robots, SerialEngine)
    lanes = [cast(SerialEngine, robots.engine).lane(index) for index in range(num_robots)]
    for model, _ in lanes:
        model.opt.disableflags |= 0 if contact_forces else mujoco.mjtDisableBit.mjDSBL_SENSOR
    task = family.sample_tasks(rng, num_robots)
    low, high = robots.model.actuator_ctrlrange.T
    actions = rng.uniform(low, high, (num_robots, family.horizon, robots.model.nu))

    def loop(first: int) -> None:
        for (model, data), own in zip(lanes[first::num_loops], actions[first::num_loops], strict=True):
            for action in own:
                data.ctrl[:] = action
                mujoco.mj_step(model, data, family.frame_skip)
                if contact_forces:
                    mujoco.mj_forward(model, data)

    def measure() -> float:
        robots.reset(task, rng)
        with ThreadPoolExecutor(num_loops) as threads:
            started = time.perf_counter()
            list(threads.map(loop, range(num_loops)))
            seconds = time.perf_counter() - started
        return num_cores() / num_loops * num_robots * family.horizon / seconds

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


def evaluate(experiment: Experiment) -> Result:
    """Trials of an untrained agent in all test tasks, side by side, as after every meta-iteration."""
    family, config, algorithm = experiment.family, experiment.settings, experiment.algorithm
    tasks, agent = experiment.draw_tasks().test, algorithm.make_agent(family, config)
    params = algorithm.agent_params(algorithm.init(family, config.shortened(iterations=1), 0))
    if config.by_hypotheses:
        params = algorithm.exploring_params(params, made_up_hypotheses(experiment), family, config)
    of_trials = (config.num_evaluation_episodes, config.num_evaluation_repeats)
    seconds = []
    for index in range(sizes.ROUNDS + 1):
        started = time.perf_counter()
        returns = rollout.evaluate(family, tasks, agent, params, jax.random.key(index), *of_trials)
        seconds.append(time.perf_counter() - started)
    figures = {"seconds": float(np.median(seconds[1:])), "control_steps": returns.size * family.horizon}
    return {"algorithm": experiment.algorithm_name} | figures  # without the first, which compiles
