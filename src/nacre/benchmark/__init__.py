"""How fast nacre is on this machine: an update, collection, an evaluation, one acting session, a meta-iteration.

What a figure is compared with is measured beside it, in turns, so that whatever else the machine does slows both alike.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax

from nacre.algorithms.registry import find_algorithm
from nacre.benchmark.acting import act
from nacre.benchmark.iteration import iteration
from nacre.benchmark.learner import scaling, update
from nacre.benchmark.playing import collect, evaluate, simulation
from nacre.benchmark.result import Result
from nacre.errors import NacreError, shown, unknown
from nacre.runs.compilation_cache import num_cores
from nacre.runs.experiment import Experiment, resolve

BENCHMARKS = ("update", "scaling", "collect", "simulation", "evaluate", "act", "iteration")
USED_BY = {
    "lanes": ("collect", "simulation"), "seeds": ("update",), "devices": ("update",),
    "precision": ("update", "scaling", "collect", "evaluate", "act", "iteration"),
    "algorithm": ("iteration", "evaluate"),
}  # fmt: skip
"""Which benchmarks use each of the arguments of `run` that not all do."""
DEFAULT_LANES = 64
MAX_LANES = 100_000  # of simulations side by side
MAX_SEEDS = 256  # of learners


def run(
    what: str, family: str, preset: str, lanes: int | None = None, seeds: int | None = None,
    precision: str | None = None, algorithm: str | None = None, devices: int | None = None,
) -> Result:  # fmt: skip
    """Times one part of PEARL with the sizes of a preset, or a meta-iteration of any method.

    `lanes`: simulations side by side, for 'collect' and 'simulation'; 64 unless given. `seeds`: learners side by side,
    for 'update'; 1. `precision`: of the products, for all but 'simulation'; the preset's. `algorithm`: for 'iteration'
    (promp) and 'evaluate' (pearl). `devices`: of JAX, over which 'update' shares out seeds or tasks; 1.

    The figures, by name, after what was measured and on which machine:

    update    ms_per_update, of all seeds together; flops_per_update (`update_flops`), likewise; ceiling_flops_per_s,
              the machine's rate in products of the update's most frequent shape, in the same precision;
              fraction_of_ceiling, of the rate in the same round (of one device); seeds; devices; precision.
    scaling   ms_per_update_N with replay of N train tasks for N of 10, 100, 1000 and 10000, in turns; slowest_over_
              fastest of these; kilobytes_per_task, what a train task's initial collection takes of both buffers.
    collect   control_steps_per_s with the policy in the loop, lanes; on MuJoCo also physics_only_steps_per_s (random
              actions, no policy) and fraction_of_physics. Both count the steps until a robot falls, and make no others.
    simulation  what stepping costs without a policy: physics_only_steps_per_s, control steps of all lanes, fallen or
              not. On MuJoCo also mj_step_steps_per_s, of a loop of mj_step on one core times the cores, and
              fraction_of_mj_step; mj_step_at_once_steps_per_s, of such loops on all cores at once, and
              fraction_of_mj_step_at_once; for ants and humanoids same_work_steps_per_s and fraction_of_same_work, of
              one loop with one more mj_forward a control step, for contact forces; async_vector_env_steps_per_s, of
              Gymnasium's AsyncVectorEnv of that robot, with as many lanes and the family's model step, and
              times_async_vector_env.
    evaluate  algorithm; seconds of one evaluation of the preset's test tasks, repeats and episodes once compiled;
              control_steps of episodes that last (those of robots that fall are shorter).
    act       microseconds_p50 and microseconds_p99 of a session's step (action plus belief update) on one core, and the
              same with a context of 10,000 transitions (microseconds_p50_long_context, ..._p99_...); numpy_ and these
              names, of the exported agent's session in NumPy; onnx_, of its step.onnx by onnxruntime, where that is
              installed; c_, of its C code, where there is a compiler; numpy_start_seconds, of a process until its
              first action; numpy_peak_bytes, the most memory of it (on Linux); bundle_bytes, of what is exported for
              NumPy.
    iteration seconds of one meta-iteration, evaluation left out; collection_seconds, in which episodes are played, and
              update_seconds, the rest; control_steps and updates in it; control_steps_per_s of the collection, policy
              included; lanes, the most side by side; algorithm.

    Raises NacreError for an unknown name, for lanes below 1, for what the benchmark does not use, and for a method that
    learns from a data set.
    """
    given = {"lanes": lanes, "seeds": seeds, "devices": devices, "precision": precision, "algorithm": algorithm}
    if what not in BENCHMARKS:
        raise unknown("benchmark", what, BENCHMARKS)
    for name, value in given.items():
        if value is not None and what not in USED_BY[name]:
            raise NacreError(
                f"--{name} is for the benchmarks {', '.join(USED_BY[name])}, and {what} does not use it; leave it out."
            )
    lanes, seeds = DEFAULT_LANES if lanes is None else lanes, 1 if seeds is None else seeds
    for name, number, most in (("lanes", lanes, MAX_LANES), ("seeds", seeds, MAX_SEEDS)):
        if not 1 <= number <= most:
            raise NacreError(f"{name} is {shown(number)}, but must be from 1 to {most}; change --{name}.")
    benchmarks: dict[str, Callable[[Experiment], Result]] = {
        "update": functools.partial(update, seeds=seeds, devices=1 if devices is None else devices),
        "scaling": scaling, "collect": functools.partial(collect, lanes=lanes),
        "simulation": functools.partial(simulation, lanes=lanes), "evaluate": evaluate, "act": act,
        "iteration": iteration,
    }  # fmt: skip
    method = algorithm or ("promp" if what == "iteration" else "pearl")
    if find_algorithm(method).offline:
        raise NacreError(f"{method} learns from a data set, which no benchmark takes; choose another --algorithm.")
    if precision is not None and "precision" not in {
        field.name for field in dataclasses.fields(find_algorithm(method).settings)
    }:
        raise NacreError(f"{method} has no setting precision; leave --precision out, or choose another --algorithm.")
    experiment = resolve(method, family, preset, **({} if precision is None else {"precision": precision}))
    figures = benchmarks[what](experiment)
    machine = {"device": jax.devices()[0].device_kind, "cpu_threads": num_cores(), "jax": jax.__version__}
    return {"benchmark": what, "family": family, "preset": preset, **machine, **figures}
