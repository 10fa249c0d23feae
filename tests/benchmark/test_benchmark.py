"""Benchmarks: the operations they count, and that each gives the figures of its contract."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.interpreters.partial_eval import dce_jaxpr

from nacre import benchmark
from nacre.algorithms import pearl
from nacre.benchmark import acting, exported, learner, playing, sizes
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, make_family
from nacre.families.family import MujocoFamily
from nacre.families.robots import load_model
from nacre.learning import soft_actor_critic
from nacre.presets.pearl import PearlSettings
from nacre.runs.compilation_cache import num_cores
from nacre.runs.experiment import from_preset, resolve
from nacre.simulation import rollout
from nacre.simulation.mujoco import MujocoLanes
from nacre.types import Transition

PAPER = PearlSettings()
CHEETAH = (20, 6)
MACHINE = {"benchmark", "family", "preset", "device", "cpu_threads", "jax"}
FIGURES = {
    "update": {
        "ms_per_update", "flops_per_update", "ceiling_flops_per_s", "fraction_of_ceiling", "seeds", "devices",
        "precision",
    },
    "scaling": {"ms_per_update_10", "ms_per_update_20", "slowest_over_fastest", "kilobytes_per_task"},
    "collect": {"control_steps_per_s", "lanes"},
    "simulation": {
        "physics_only_steps_per_s", "mj_step_steps_per_s", "async_vector_env_steps_per_s", "lanes",
        "fraction_of_mj_step", "mj_step_at_once_steps_per_s", "fraction_of_mj_step_at_once", "times_async_vector_env",
    },
    "evaluate": {"algorithm", "seconds", "control_steps"},
    "iteration": {
        "algorithm", "seconds", "collection_seconds", "update_seconds", "control_steps", "updates",
        "control_steps_per_s", "lanes",
    },
    "act": {
        "microseconds_p50", "microseconds_p99", "microseconds_p50_long_context", "microseconds_p99_long_context",
        "long_context", "numpy_microseconds_p50", "numpy_microseconds_p99", "numpy_microseconds_p50_long_context",
        "numpy_microseconds_p99_long_context", "numpy_start_seconds", "bundle_bytes",
        *["numpy_peak_bytes"] * (sys.platform == "linux"),
        *(f"{runtime}_microseconds_p{percent}{when}" for runtime in exported.runtimes() for percent in (50, 99)
          for when in ("", "_long_context")),
    },
}  # fmt: skip


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """Benchmarks that measure next to nothing: what they come to is not what these tests are about."""
    small: dict[str, Any] = dict(
        ROUNDS=2,
        UPDATES_PER_ROUND=2,
        CONTROL_STEPS_PER_ROUND=1,
        ACTING_STEPS=20,
        LONG_CONTEXT=200,
        ITERATION_ROUNDS=1,
    )
    small |= dict(SCALING_TASKS=(10, 20))
    for name, value in small.items():
        monkeypatch.setattr(sizes, name, value)


def products_of_update(obs_dim: int, action_dim: int, config: PearlSettings) -> int:
    """2mnk over the matrix products in the program of one update, as JAX traces it."""

    def zeros(num: int) -> Transition:
        rows = (config.meta_batch, num)
        obs, action, scalar = (jnp.zeros(rows + dims) for dims in ((obs_dim,), (action_dim,), ()))
        return Transition(obs, action, scalar, scalar, scalar, obs)

    def update(batch: Transition, context: Transition, noise: pearl.Noise) -> Any:
        networks, optimisers = pearl.init_learner(obs_dim, action_dim, config, jax.random.key(0))
        return soft_actor_critic.update(networks, optimisers, batch, context, noise, config, pearl.OBJECTIVE)

    actions = jnp.zeros((config.meta_batch, config.batch_size, action_dim))
    noise = pearl.Noise(jnp.zeros((config.meta_batch, config.latent_dim)), actions, actions)
    program = jax.make_jaxpr(update)(zeros(config.batch_size), zeros(config.context_batch_size), noise).jaxpr
    return _products(dce_jaxpr(program, [True] * len(program.outvars))[0])  # what nobody reads is not computed


def _products(program: Any) -> int:
    total = 0
    for equation in program.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            shape = equation.invars[0].aval.shape
            total += 2 * equation.outvars[0].aval.size * int(np.prod([shape[axis] for axis in contracted]))
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "jaxpr")):
            if hasattr(inner, "jaxpr"):
                total += _products(inner.jaxpr)
    return total


def test_operations_of_an_update_by_hand():
    config = dataclasses.replace(
        PAPER, meta_batch=1, batch_size=1, context_batch_size=1, latent_dim=1, hidden_dim=2, num_hidden_layers=1,
        encoder_hidden_dim=3,
    )  # fmt: skip
    # Multiplications of the two layers' products, for obs_dim 2 and action_dim 1: forward + weights + inputs.
    target_value = 2 * 2 + 2 * 1
    critic = (3 * 2 + 2 * 1) + (3 * 2 + 2 * 1) + 2 * 1
    policy = (2 * 2 + 2 * 2) + (2 * 2 + 2 * 2) + 2 * 2
    critic_of_new_action = (3 * 2 + 2 * 1) + (2 * 1 + 1 * 2)  # no weights; towards the action
    value = (2 * 2 + 2 * 1) + (2 * 2 + 2 * 1) + 2 * 1
    encoder = (4 * 3 + 3 * 2) + (4 * 3 + 3 * 2) + 3 * 2  # from obs, action and reward to mean and variance
    z = 13 * (1 * 2)  # forward: V target, 2 Q, pi, 2 Q, V; weights: 2 Q, pi, V; towards z: 2 Q
    by_hand = target_value + 2 * critic + policy + 2 * critic_of_new_action + value + encoder + z
    assert config.update_flops(2, 1) == 2 * by_hand == 336

    without_v = dataclasses.replace(config, use_value_network=False)
    slow_critic, next_policy = 3 * 2 + 2 * 1, 2 * 2 + 2 * 2
    less = target_value + value  # z: V target and V (2) against pi and 2 slow Q
    assert without_v.update_flops(2, 1) == 2 * (by_hand - less + 2 * slow_critic + next_policy)


def test_operations_at_the_sizes_of_cheetah_vel():
    hidden_products = 34 * 2 * 4096 * 300 * 300
    assert PAPER.update_flops(*CHEETAH) == pytest.approx(26.67e9, rel=1e-3)
    assert hidden_products == pytest.approx(25.07e9, rel=1e-3)
    as_wide = dataclasses.replace(PAPER, encoder_hidden_dim=300)
    assert as_wide.update_flops(*CHEETAH) == pytest.approx(27.66e9, rel=1e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"use_next_obs_in_context": True},
        {"use_information_bottleneck": False},
        {"num_hidden_layers": 1},
        {"use_value_network": False, "normalise_critics": True},
        {"num_critics": 1},
        {"use_value_network": False, "num_critics": 1},
        {"precision": "bfloat16"},
        {"predict_rewards": True},
    ],
    ids=str,
)
def test_the_program_of_an_update_computes_what_is_counted_and_less_than_1_percent_more(changes: dict[str, Any]):
    config = dataclasses.replace(PAPER, **changes)
    needed, computed = config.update_flops(*CHEETAH), products_of_update(*CHEETAH, config)
    assert needed <= computed
    if config.num_hidden_layers == PAPER.num_hidden_layers:
        assert computed < 1.01 * needed


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("what", "family"),
    [
        *((what, "point-robot") for what in ("update", "scaling", "collect", "evaluate", "act", "simulation")),
        ("iteration", "point-robot"),
        ("collect", "cheetah-dir"),
        ("simulation", "ant-goal"),
        *(
            pytest.param(what, family, marks=pytest.mark.slow)
            for what, family in (
                ("evaluate", "cheetah-dir"),
                ("act", "cheetah-dir"),
                ("simulation", "hopper-params"),
                ("iteration", "hopper-params"),
            )
        ),
    ],
)
def test_a_benchmark_gives_the_figures_of_its_contract(what: str, family: str):
    lanes = 4 if what in ("collect", "simulation") else None
    result = benchmark.run(what, family, "smoke", lanes)
    figures = FIGURES[what]
    if what == "collect" and family == "cheetah-dir":
        figures = figures | {"physics_only_steps_per_s", "fraction_of_physics"}
    if what == "simulation" and family == "ant-goal":
        figures = figures | {"same_work_steps_per_s", "fraction_of_same_work"}
    if what == "simulation" and family == "point-robot":
        figures = {"physics_only_steps_per_s", "lanes"}
    assert set(result) == MACHINE | figures
    assert list(result)[:3] == ["benchmark", "family", "preset"]
    assert (result["benchmark"], result["family"], result["preset"]) == (what, family, "smoke")
    numbers = [value for value in result.values() if not isinstance(value, str)]
    assert np.isfinite(numbers).all()
    assert min(numbers) > 0


@pytest.mark.usefixtures("short")
def test_the_fraction_is_the_rate_of_the_updates_of_all_seeds_over_that_of_the_products(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(sizes, "ROUNDS", 1)
    monkeypatch.setattr(learner, "_product_rate", lambda rows, width, precision: lambda: float(1e6 * rows + width))
    result = benchmark.run("update", "point-robot", "smoke", seeds=3, precision="bfloat16")
    assert (result["seeds"], result["precision"]) == (3, "bfloat16")
    flops = 3 * resolve("pearl", "point-robot", "smoke").settings.update_flops(2, 2)
    assert result["flops_per_update"] == flops
    assert result["ceiling_flops_per_s"] == 1e6 * 2 * 16 + 32  # meta_batch * batch_size rows, hidden_dim
    rate = flops / (1e-3 * result["ms_per_update"])
    assert result["fraction_of_ceiling"] == pytest.approx(rate / result["ceiling_flops_per_s"])


@pytest.mark.usefixtures("short")
def test_a_made_up_replay_gives_every_task_its_own_page():
    from nacre.learning import replay as rings

    replay = learner._made_up_replay(rings.empty(5, 200, 1000, 2, 2), seed=0)
    assert sorted(np.asarray(replay.pages)[:, 0].tolist()) == [0, 1, 2, 3, 4]
    drawn = rings.sample(replay, jnp.arange(5), 300, 2, jax.random.key(0))
    rows = {tuple(row) for task in np.asarray(drawn.obs) for row in task.tolist()}
    for task, page in enumerate(np.asarray(replay.pages)[:, 0]):
        own = {tuple(row) for row in np.asarray(replay.pool)[page * 200 : (page + 1) * 200, :2].tolist()}
        assert {tuple(row) for row in np.asarray(drawn.obs)[task].tolist()} <= own
    assert len(rows) > 500


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize(
    ("method", "control_steps", "updates", "lanes"),
    # Tasks x episodes x horizon; ProMP before and after adaptation; PEARL from the prior and the posterior.
    [
        ("rl2", 2 * 2 * 20, 2, 2),
        pytest.param("promp", 2 * 2 * 2 * 20, 5, 4, marks=pytest.mark.slow),
        ("pearl", 2 * (40 + 40), 10, 4),
    ],
)
def test_an_iteration_is_one_of_the_method_asked_for(method: str, control_steps: int, updates: int, lanes: int):
    players = rollout._compiled_episode, rollout._stepped_episode
    result = benchmark.run("iteration", "point-robot", "smoke", algorithm=method)
    assert [result[name] for name in ("algorithm", "control_steps", "updates", "lanes")] == [
        method, control_steps, updates, lanes,
    ]  # fmt: skip
    parts = float(result["collection_seconds"]) + float(result["update_seconds"])
    assert parts == pytest.approx(result["seconds"])
    assert players == (rollout._compiled_episode, rollout._stepped_episode)


def test_collections_physics_counts_the_steps_until_a_robot_falls_and_simulations_all(monkeypatch: pytest.MonkeyPatch):
    """Of hoppers under the same random actions, whose falls are counted here one lane at a time."""
    family, lanes = make_family("hopper-gravity"), 3
    rates = {until: playing._physics_rate(family, lanes, 1, until_fallen=until) for until in (True, False)}
    clock = itertools.count()
    monkeypatch.setattr(playing.time, "perf_counter", lambda: float(next(clock)))  # a measurement takes one second
    rng = np.random.default_rng(0)
    task, simulators = family.sample_tasks(rng, lanes), MujocoLanes(family, lanes)
    actions = rng.uniform(-1.0, 1.0, (family.horizon, lanes, family.action_dim)).astype(np.float32)
    simulators.reset(task, rng)
    falls = np.array([simulators.step(action, task).terminated for action in actions])
    assert falls.any(axis=0).all()
    assert rates[True]() == (falls.argmax(axis=0) + 1).sum()
    assert rates[False]() == lanes * family.horizon


@pytest.mark.parametrize("name", sorted(name for name in FAMILIES if issubclass(FAMILIES[name], MujocoFamily)))
def test_the_robot_beside_it_is_gymnasiums_with_the_familys_model_and_time_step(name: str):
    family: Any = make_family(name)
    env: Any = playing._gymnasiums_robot(family)
    model, own = env.unwrapped.model, load_model(family.model_file, family.model_timestep)
    assert (model.opt.timestep, env.unwrapped.frame_skip) == (own.opt.timestep, family.frame_skip)
    np.testing.assert_array_equal(model.geom_friction, own.geom_friction)
    env.close()


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("predict_rewards", [False, True])
def test_agents_that_explore_by_hypotheses_are_timed_too(predict_rewards: bool):
    """As those of `fast` and `best`; untrained ones have made-up hypotheses."""
    fields = {"exploration": "hypotheses", "predict_rewards": predict_rewards}
    experiment = from_preset("pearl", "point-robot", "smoke", **fields)
    for result in (playing.evaluate(experiment), playing.collect(experiment, 4), acting.act(experiment)):
        assert all(np.isfinite(value) and value > 0 for value in result.values() if not isinstance(value, str))


@pytest.mark.usefixtures("short")
def test_an_evaluation_is_the_one_that_the_preset_asks_for():
    result = benchmark.run("evaluate", "point-robot", "smoke")
    assert result["control_steps"] == 3 * 1 * 3 * 20  # tasks, repeats, episodes, horizon


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux confines threads to cores")
@pytest.mark.usefixtures("short")
def test_acting_is_timed_on_one_core_and_leaves_the_process_as_it_was(monkeypatch: pytest.MonkeyPatch):
    def cores() -> dict[str, set[int]]:
        return {thread: os.sched_getaffinity(int(thread)) for thread in os.listdir("/proc/self/task")}

    during: list[dict[str, set[int]]] = []
    measure = acting._step_microseconds

    def observed(*args: Any) -> Any:
        during.append(cores())
        return measure(*args)

    monkeypatch.setattr(acting, "_step_microseconds", observed)
    before = os.sched_getaffinity(0)
    result = benchmark.run("act", "point-robot", "smoke")
    assert (result["cpu_threads"], result["long_context"]) == (1, 200)
    assert len(during) == 4
    assert all(allowed == {max(before)} for threads in during for allowed in threads.values())
    assert all(allowed == before for allowed in cores().values())


@pytest.mark.parametrize(
    ("what", "flags", "words"),
    [
        ("updaet", {}, "did you mean 'update'"),
        ("update", {"family": "point-robt"}, "did you mean 'point-robot'"),
        ("update", {"preset": "smok"}, "did you mean 'smoke'"),
        ("collect", {"lanes": 0}, "lanes is 0, but must be from 1 to 100000; change --lanes."),
        ("update", {"seeds": 0}, "seeds is 0, but must be from 1 to 256; change --seeds."),
        ("update", {"devices": 0}, "devices must be at least 1; change --devices."),
        ("iteration", {"algorithm": "random"}, "random neither collects nor learns; choose another --algorithm."),
        ("iteration", {"algorithm": "macaw"}, "macaw learns from a data set, which no benchmark takes"),
        ("evaluate", {"algorithm": "macaw"}, "macaw learns from a data set, which no benchmark takes"),
        *((what, {"algorithm": "rl2"}, f"--algorithm is for the benchmarks iteration, evaluate, and {what} does not")
          for what in ("update", "scaling", "collect", "simulation", "act")),
        *((what, {name: 1}, f"--{name} is for the benchmarks update, and {what} does not use it; leave it out.")
          for name in ("seeds", "devices") for what in ("scaling", "collect", "act", "iteration")),
        *((what, {"lanes": 64}, f"--lanes is for the benchmarks collect, simulation, and {what} does not use it")
          for what in ("update", "scaling", "evaluate", "act", "iteration")),
        ("simulation", {"precision": "bfloat16"}, "and simulation does not use it; leave it out."),
        ("iteration", {"precision": "bfloat16"}, "promp has no setting precision; leave --precision out"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_with_a_sentence(
    what: str, flags: dict[str, Any], words: str, capsys: pytest.CaptureFixture[str]
):
    names = {"family": "point-robot", "preset": "smoke"} | flags
    with pytest.raises(NacreError) as error:
        benchmark.run(what, **names)
    assert words in str(error.value)
    if what in benchmark.BENCHMARKS:
        command = ["benchmark", what, *(word for name, value in names.items() for word in (f"--{name}", str(value)))]
        assert cli.main(command) == 2
        assert words in capsys.readouterr().err


@pytest.mark.usefixtures("short")
def test_json_prints_one_object_and_nothing_else(capsys: pytest.CaptureFixture[str]):
    arguments = ["benchmark", "collect", "--family", "point-robot", "--preset", "smoke", "--lanes", "4", "--json"]
    assert cli.main(arguments) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["benchmark"], result["lanes"]) == ("collect", 4)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("num_loops", [1, 3])
def test_bare_loops_step_all_of_their_robots_whole_episodes(num_loops: int, monkeypatch: pytest.MonkeyPatch):
    made: list[MujocoLanes] = []

    class Noted(MujocoLanes):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(playing, "MujocoLanes", Noted)
    monkeypatch.setattr(playing.time, "perf_counter", iter([10.0, 12.0]).__next__)
    family = make_family("hopper-params")
    rate = playing._mj_step_rate(family, 5, num_loops=num_loops)()
    (robots,) = made
    assert robots.num_lanes == 5
    np.testing.assert_allclose(robots.engine.time(), family.horizon * family.frame_skip * 0.004)
    assert rate == num_cores() / num_loops * 5 * family.horizon / 2.0
