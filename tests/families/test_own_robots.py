"""Robots from anywhere: a description with a mesh in an asset folder, a MjSpec, a function; and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import mujoco
import numpy as np
import pytest

import nacre
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES
from nacre.families.family import MujocoFamily
from nacre.families.robots import load_model
from nacre.simulation.environment import TaskEnvironment

CART = """
<mujoco model="cart">
  <compiler meshdir="parts"/>
  <option timestep="0.01"/>
  <asset><mesh name="hull" file="hull.obj"/></asset>
  <worldbody>
    <light pos="0 0 3"/>
    <geom type="plane" size="5 5 0.1"/>
    <body name="cart" pos="0 0 0.5">
      <joint name="slide" type="slide" axis="1 0 0" damping="0.1"/>
      <geom type="mesh" mesh="hull" mass="1" rgba="1 0 0 1"/>
    </body>
  </worldbody>
  <actuator><motor joint="slide" ctrlrange="-2 2"/></actuator>
</mujoco>
"""
HULL = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"

PLUGIN = """
from pathlib import Path
import nacre, numpy as np

@nacre.register_family
class CartPlace(nacre.MujocoFamily):
    name, obs_dim, action_dim, horizon = "cart-place", 2, 1, 20
    model_file = Path(__file__).parent / "robot" / "cart.xml"
    frame_skip = 2
    parameters = {"place": 0}
    task_range = "place in [-1, 1] m"

    def sample_tasks(self, rng, num):
        return {"place": rng.uniform(-1.0, 1.0, num)}

    def in_range(self, task):
        return np.abs(task["place"]) <= 1.0

    def reset_state(self, qpos, qvel, rng):
        return qpos + rng.uniform(-0.01, 0.01, qpos.shape), qvel

    def observe(self, physics):
        return np.concatenate([physics.qpos, physics.qvel], axis=-1)

    def rewards(self, before, after, action, task):
        reward = -np.abs(after.qpos[:, 0] - task["place"])
        return reward, reward

    def terminated(self, after):
        return np.zeros(len(after.qpos), bool)
"""


@pytest.fixture
def robot(tmp_path: Path) -> Path:
    """The cart's file; its mesh lies in a folder beside it."""
    (tmp_path / "robot" / "parts").mkdir(parents=True)
    (tmp_path / "robot" / "parts" / "hull.obj").write_text(HULL)
    path = tmp_path / "robot" / "cart.xml"
    path.write_text(CART)
    return path


@pytest.fixture
def plugin(tmp_path: Path, robot: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    before = dict(FAMILIES)
    (tmp_path / "cart_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield "cart_plugin"
    FAMILIES.clear()
    FAMILIES.update(before)
    import sys

    sys.modules.pop("cart_plugin", None)


def test_a_robot_with_a_mesh_trains_from_the_command_line_and_from_python(
    plugin: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    arguments = ["train", "pearl", "cart-place", "--plugin", plugin, "--preset", "smoke", "--out", str(out)]
    assert cli.main(arguments) == 0, capsys.readouterr().err
    run = nacre.train("random", "cart-place", preset="smoke", out=tmp_path / "other")
    returns, _ = nacre.load(run.path).evaluate("fresh:2")
    assert np.isfinite(returns).all()


def test_it_moves_as_its_description_says(plugin: str) -> None:
    """Newton: a 1 kg cart pushed by 2 N from rest for 0.02 s, in two steps of 0.01 s, almost without damping."""
    __import__(plugin)
    env = TaskEnvironment("cart-place", task="place=0")
    start, _ = env.reset(seed=0)
    obs, *_ = env.step(np.ones(1, np.float32))
    np.testing.assert_allclose(obs - start, [2 * (0.01**2 + 0.01 * 0.02), 0.04], rtol=5e-3)
    assert env.metadata["render_fps"] == 50


@pytest.mark.usefixtures("gl")
def test_its_mesh_is_drawn(plugin: str) -> None:
    __import__(plugin)
    env = TaskEnvironment("cart-place", task="place=0", render_mode="rgb_array")
    env.reset(seed=0)
    frame = env.render().astype(int)
    assert (frame[..., 0] - frame[..., 1] > 40).mean() > 0.001, "something red"
    env.close()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (' ctrlrange="-2 2"', ' name="push"', "the actuator 'push' of cart-place's robot has no ctrlrange"),
        ("</actuator>", '<motor joint="slide" ctrlrange="0 1"/></actuator>', "action_dim 1, but its robot has 2"),
    ],
)
def test_actuators_that_actions_cannot_move_are_refused(
    old: str, new: str, words: str, plugin: str, robot: Path
) -> None:
    __import__(plugin)
    robot.write_text(CART.replace(old, new))
    with pytest.raises(NacreError, match=words):
        TaskEnvironment("cart-place", task="place=0")


def robots(path: Path) -> dict[str, Any]:
    return {
        "text": str(path), "path": path, "spec": mujoco.MjSpec.from_file(str(path)),
        "function": lambda: mujoco.MjSpec.from_file(str(path)),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["text", "path", "spec", "function"])
def test_a_description_is_given_in_four_ways_and_never_changed(kind: str, robot: Path) -> None:
    class Cart(MujocoFamily):
        model_file: ClassVar[Any] = robots(robot)[kind]

    for contact_forces in (True, False):  # which adds a sensor to a copy
        model = load_model(Cart.model_file, 0.005, contact_forces)
        assert (model.nmesh, model.nu, model.nsensor, model.opt.timestep) == (1, 1, int(contact_forces), 0.005)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda path: path.unlink(), r"there is no robot description .*cart\.xml"),
        (lambda path: path.write_text("<mujoco><body></mujoco>"), r"cannot read the robot description .*cart\.xml: "),
        (
            lambda path: path.write_text(CART.replace("hull.obj", "keel.obj")),
            "cannot read the robot .*keel",
        ),
        (lambda path: path.write_text("pixels"), r"cannot read the robot description .*cart\.xml: "),
    ],
)
def test_what_is_no_robot_is_refused_with_a_sentence_that_names_it(
    spoil: Callable[[Path], Any], words: str, robot: Path
) -> None:
    spoil(robot)
    with pytest.raises(NacreError, match=words) as refused:
        load_model(robot)
    assert "\n" not in str(refused.value)


def test_a_relative_path_and_a_function_of_something_else_are_refused() -> None:
    with pytest.raises(NacreError, match=r"relative path robots/cart\.xml.*absolute"):
        load_model("robots/cart.xml")
    with pytest.raises(NacreError, match="gave str; return"):
        load_model(lambda: "cart")
    with pytest.raises(NacreError, match=r"no robot description .*unicorn\.xml"):
        load_model("unicorn.xml")
