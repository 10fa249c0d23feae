"""Families as Gymnasium environments: Gymnasium's own checks, and that they are the families that trainers step."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from unittest.mock import Mock

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco import mujoco_rendering
from gymnasium.utils.env_checker import check_env
from matplotlib import pyplot

from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, OPTIONAL, make_family
from nacre.families.family import JaxFamily, MujocoFamily
from nacre.families.gymnasium_ids import environment_id
from nacre.simulation import rendering
from nacre.simulation.environment import TaskEnvironment
from nacre.simulation.look import TRAIL_COLOUR, Look, reading
from nacre.simulation.mujoco import MujocoLanes


@pytest.fixture(params=sorted(FAMILIES))
def env(request: pytest.FixtureRequest) -> Iterator[gymnasium.Env]:
    made = gymnasium.make(environment_id(request.param))
    yield made
    made.close()


def test_names_are_those_of_the_families_in_one_word() -> None:
    assert environment_id("cheetah-vel") == "nacre/CheetahVel-v0"
    assert environment_id("ant-dir-360") == "nacre/AntDir360-v0"
    assert {environment_id(name) for name in FAMILIES | OPTIONAL} <= set(gymnasium.registry)


@pytest.mark.slow
def test_an_import_of_nacre_makes_the_families_known_to_gymnasium() -> None:
    """tests/cli/test_start_up.py imports them in either order."""
    code = "import gymnasium, nacre; print(gymnasium.make('nacre/PointRobot-v0').reset(seed=0)[0].shape)"
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert made.stdout == "(2,)\n", made.stderr


def test_gymnasiums_own_checks_pass(env: gymnasium.Env) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*infinity.*")  # observations have no bounds
        check_env(env.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("family", ["point-robot", "point-wind", "cheetah-vel"])
def test_gymnasiums_own_checks_of_pictures_pass(family: str, request: pytest.FixtureRequest) -> None:
    """All of its checks but those of windows, which need a display."""
    if issubclass(FAMILIES[family], MujocoFamily):
        request.getfixturevalue("gl")
    env = gymnasium.make(environment_id(family), render_mode="rgb_array").unwrapped
    assert env.metadata["render_modes"] == ["human", "rgb_array"]
    env.metadata["render_modes"] = ["rgb_array"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*infinity.*")  # observations have no bounds
        check_env(env)
    env.close()


def test_an_episode_lasts_to_the_horizon_unless_it_ends_early(env: gymnasium.Env) -> None:
    family = env.unwrapped.family
    env.reset(seed=0)
    for length in range(1, family.horizon + 1):  # noqa: B007
        _, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert np.isfinite(reward) and np.isfinite(info["training_reward"])
        if terminated or truncated:
            break
    assert terminated or (truncated and length == family.horizon)
    assert family.can_terminate or not terminated


def test_without_a_task_every_reset_draws_one_and_with_one_it_stays(env: gymnasium.Env) -> None:
    family = env.unwrapped.family
    drawn = [str(env.reset(seed=seed)[1]["task"]) for seed in range(8)]
    assert len(set(drawn)) > 1
    assert str(env.reset(seed=3)[1]["task"]) == drawn[3]
    sampled = family.sample_tasks(np.random.default_rng(5), 1)
    task = {name: values[0].tolist() for name, values in sampled.items()}
    text = " ".join(f"{name}=" + ",".join(map(str, np.atleast_1d(values))) for name, values in task.items())
    assert env.reset(options={"task": text})[1]["task"] == task
    assert env.reset()[1]["task"] == task


@pytest.mark.parametrize("name", ["cheetah-vel", "ant-goal", "walker-params"])
def test_a_robot_goes_as_in_training(name: str) -> None:
    family = make_family(name)
    assert isinstance(family, MujocoFamily)
    env, lanes = TaskEnvironment(family), MujocoLanes(family, 1)
    obs, _ = env.reset(seed=0)
    task = env._task
    assert task is not None
    rng = np.random.default_rng(0)
    lanes.reset(task, rng)
    state = env._lane.engine.physics()
    lanes.engine.reset(state.qpos, state.qvel)
    np.testing.assert_allclose(obs, family.observe(lanes.engine.physics())[0], rtol=1e-5, atol=1e-6)
    for _ in range(30):
        action = rng.uniform(-1.5, 1.5, family.action_dim).astype(np.float32)
        expected = lanes.step(action[None], task)
        obs, reward, terminated, _, info = env.step(action)
        np.testing.assert_array_equal(obs, expected.obs[0])
        assert (reward, terminated) == (expected.reward[0], expected.terminated[0])
        assert info["training_reward"] == expected.training_reward[0]
        if terminated:
            break


@pytest.mark.parametrize("name", ["point-robot", "sparse-point-robot"])
def test_a_point_robot_is_drawn_with_its_goal(name: str) -> None:
    assert issubclass(FAMILIES[name], JaxFamily)
    env = gymnasium.make(environment_id(name), task="goal=-0.6,0.8", render_mode="rgb_array")
    env.reset(seed=0)
    for _ in range(3):
        obs, *_ = env.step(np.array([1.0, -1.0], np.float32))
    frame = env.render()
    assert frame.shape == (480, 480, 3) and frame.dtype == np.uint8
    blue, green = (
        np.argwhere((frame == colour).all(axis=-1)).mean(axis=0) for colour in ((0, 114, 178), (0, 158, 115))
    )
    for (row, column), position in ((blue, obs), (green, (-0.6, 0.8))):
        np.testing.assert_allclose((column / 479 * 3 - 1.5, 1.5 - row / 479 * 3), position, atol=0.02)


@pytest.mark.usefixtures("gl")
@pytest.mark.parametrize(
    "family", ["cheetah-vel", "ant-dir", "humanoid-dir", "walker-params", "hopper-params", "reacher-inversion"]
)
def test_a_robot_is_drawn_and_stays_in_the_picture_wherever_it_goes(family: str) -> None:
    env = TaskEnvironment(family, render_mode="rgb_array")
    env.reset(seed=0)
    model, data = env._lane.engine.lane(0)
    groups = model.geom_group.copy()
    for metres in (0.0, 0.0 if family == "reacher-inversion" else 20.0):  # the arm is fixed to its table
        data.qpos[0] += metres
        mujoco.mj_forward(model, data)
        frame = env.render()
        assert frame.shape == (480, 480, 3) and frame.dtype == np.uint8 and frame.std() > 20
        model.geom_group[model.geom_bodyid > 0] = 5  # which is not drawn
        assert (env.render() != frame).any(axis=-1).mean() > 0.003, "the robot is a part of the picture"
        model.geom_group[:] = groups
    env.close()


def test_a_robot_leaves_a_trail_where_it_is_asked_for_until_it_is_reset() -> None:
    def trail(env: TaskEnvironment) -> int:
        return int((env.render() == TRAIL_COLOUR).all(axis=-1).sum())

    for look, there in ((Look(320, 240, trail=True), True), (Look(320, 240), False)):
        env = TaskEnvironment("point-robot", "goal=0.5,-0.5", render_mode="rgb_array", look=look)
        env.reset(seed=0)
        assert trail(env) == 0
        for _ in range(3):
            env.step(np.array([1.0, 0.0], np.float32))
        assert (trail(env) > 10) == there
        env.reset(seed=1)
        assert trail(env) == 0
        env.close()


@pytest.mark.usefixtures("gl")
def test_a_task_is_drawn_beside_the_robot_and_told_in_words() -> None:
    env = TaskEnvironment("ant-dir-360", "angle=0", render_mode="rgb_array", look=Look(320, 240))
    env.reset(seed=0)
    ahead = env.render()
    assert ahead.shape == (240, 320, 3) and (ahead[..., 1].astype(int) - ahead[..., 0] > 40).sum() > 50, "a green arrow"
    env.reset(seed=0, options={"task": "angle=3.1416"})
    assert (env.render() != ahead).any(axis=-1).sum() > 50, "which points elsewhere"
    assert re.fullmatch(r"speed along the green arrow -?\d+\.\d\d m/s", env.reading())
    env.close()


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"velocity": np.array([1.5])}, "speed 0.50 m/s (blue), target 1.50 (green)"),
        ({"angle": np.array([np.pi / 2])}, "speed along the green arrow -2.00 m/s"),
        ({"direction": np.array([-1.0])}, "speed along the green arrow -0.50 m/s"),
        ({"goal": np.array([[4.0, 5.0]])}, "distance to the goal 5.00"),
        ({"exponents": np.zeros((1, 65))}, ""),
    ],
)
def test_how_a_robot_does_is_told_beside_what_is_asked(task: dict[str, np.ndarray], words: str) -> None:
    assert reading(task, np.array([1.0, 1.0]), np.array([0.5, -2.0])) == words


@pytest.mark.usefixtures("gl")
def test_environments_side_by_side_draw_their_own_pictures_and_close_their_own() -> None:
    envs = [TaskEnvironment(family, render_mode="rgb_array") for family in ("cheetah-vel", "ant-dir")]
    for env in envs:
        env.reset(seed=0)
    first, second = (env.render() for env in envs)
    assert (first != second).any()
    np.testing.assert_array_equal(envs[0].render(), first)
    envs[0].close()
    np.testing.assert_array_equal(envs[1].render(), second)
    envs[1].close()


def test_without_a_display_mujoco_renders_by_egl_or_osmesa_unless_told_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rendering.sys, "platform", "linux")
    for library in ("egl", "osmesa"):
        monkeypatch.setitem(sys.modules, f"mujoco.{library}", SimpleNamespace(GLContext=Mock()))
    for display, told, there, wanted in (
        (False, None, ["EGL", "OSMesa"], "egl"),
        (False, None, ["OSMesa"], "osmesa"),
        (False, "osmesa", ["EGL"], "osmesa"),
        (False, "", ["EGL"], "egl"),
        (True, "egl", ["EGL"], "egl"),
    ):
        monkeypatch.setenv("MUJOCO_GL", told or "")
        if told is None:
            monkeypatch.delenv("MUJOCO_GL")
        monkeypatch.setattr(rendering, "_has_display", lambda display=display: display)
        monkeypatch.setattr(rendering, "find_library", lambda name, there=there: name in there or None)
        rendering.prepare_mujoco_rendering("rgb_array")
        assert os.environ["MUJOCO_GL"] == wanted


def test_without_a_library_a_render_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_has_display", lambda: False)
    env = TaskEnvironment("hopper-params", render_mode="rgb_array")
    env.reset(seed=0)
    for library in ("egl", "osmesa", "glfw"):
        monkeypatch.setenv("MUJOCO_GL", library)
        monkeypatch.setitem(sys.modules, f"mujoco.{library}", None)
        with pytest.raises(NacreError, match=f"cannot render by {library} .* install libegl1 or libosmesa6"):
            env.render()
    env.close()


@pytest.mark.parametrize("family", ["cheetah-vel", "point-robot"])
def test_a_window_without_a_display_is_refused_with_a_sentence(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rendering, "_has_display", lambda: False)
    monkeypatch.setattr(pyplot, "get_backend", lambda: "agg")
    env = gymnasium.make(environment_id(family), render_mode="human")
    with pytest.raises(NacreError, match=r"no display to open a window on; .*render_mode='rgb_array'"):
        env.reset(seed=0)
    env.close()


def test_in_human_mode_gymnasiums_window_is_drawn_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    window = Mock()
    monkeypatch.setattr(rendering, "_has_display", lambda: True)
    monkeypatch.setattr(mujoco_rendering, "MujocoRenderer", Mock(return_value=window))
    env = gymnasium.make("nacre/CheetahVel-v0", render_mode="human")
    env.reset(seed=0)
    for _ in range(3):
        env.step(env.action_space.sample())
    assert [call.args for call in window.render.call_args_list] == [("human",)] * 4
    env.close()
    window.close.assert_called_once()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"task": "velocity=9"}, "outside cheetah-vel's range, .*--allow-ood, or in Python allow_ood=True"),
        ({"task": "speed=1"}, "is not a task"),
        ({"render_mode": "ansi"}, "rgb_array"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_sentence(arguments: dict[str, str], words: str) -> None:
    with pytest.raises(NacreError, match=words):
        TaskEnvironment("cheetah-vel", **arguments)


def test_a_task_outside_the_range_is_taken_where_asked_for() -> None:
    env = TaskEnvironment("cheetah-vel", task="velocity=9", allow_ood=True)
    assert env.reset()[1]["task"] == {"velocity": 9.0}


def test_a_step_before_the_first_reset_is_refused() -> None:
    with pytest.raises(gymnasium.error.ResetNeeded):
        TaskEnvironment("cheetah-vel").step(np.zeros(6, np.float32))


@pytest.mark.parametrize("family", ["cheetah-vel", "point-robot"])
def test_an_action_of_another_shape_is_refused_rather_than_broadcast(family: str) -> None:
    env = TaskEnvironment(family)
    env.reset(seed=0)
    (size,) = env.action_space.shape or ()
    for wrong in (0.5, [0.5], np.zeros(size + 1), np.zeros((1, size))):
        with pytest.raises(NacreError, match=rf"the action has shape .* but must have \({size},\)"):
            env.step(wrong)  # type: ignore[arg-type]
    with pytest.raises(NacreError, match="the action has a number that is not finite"):
        env.step(np.full(size, np.nan))
    with pytest.raises(NacreError, match=r"must be .* numbers in"):
        env.step({"left": 1})  # type: ignore[arg-type]
    env.step([0.0] * size)  # type: ignore[arg-type]
    env.close()


def test_mujoco_gl_is_read_as_mujoco_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for told, wanted in (("EGL", "egl"), (" osmesa ", "osmesa"), ("", "glfw"), ("on", "glfw"), ("GLX", "glfw")):
        monkeypatch.setenv("MUJOCO_GL", told)
        assert rendering.opengl_library() == wanted
    monkeypatch.delenv("MUJOCO_GL")
    assert rendering.opengl_library() == "glfw"
