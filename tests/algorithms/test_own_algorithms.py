"""The programs of docs/add-an-algorithm.md, as they stand there; what registration refuses; entry points."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import nacre
from nacre.algorithms import pearl, registry
from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.families import catalog, plugins
from nacre.families.point import PointRobot
from nacre.learning import soft_actor_critic
from nacre.presets.pearl import PearlSettings

PAGE = (Path(__file__).parents[2] / "docs" / "add-an-algorithm.md").read_text()
PROGRAMS = {
    re.search(r"The file is `(\w+)\.py`", section)[1]: re.search(r"```python\n(.*?)```", section, re.DOTALL)[1]  # type: ignore[index]
    for section in PAGE.split("\n## ")
    if "The file is" in section
}


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """What tests register is forgotten."""
    before = [(table, dict(table)) for table in (registry._registered, registry._registered_by, catalog.FAMILIES)]
    yield
    for table, contents in before:
        table.clear()
        table.update(contents)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory that holds the page's programs."""
    for name, program in PROGRAMS.items():
        (tmp_path / f"{name}.py").write_text(program)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    for name in PROGRAMS:
        sys.modules.pop(name, None)


def column(file: Path, name: str) -> list[float]:
    with file.open(newline="") as lines:
        return [float(row[name]) for row in csv.DictReader(lines)]


def test_the_page_has_two_programs_and_explains_every_field() -> None:
    assert set(PROGRAMS) == {"huber", "constant"}
    for field in [*pearl.OBJECTIVE._fields, *(field.name for field in dataclasses.fields(nacre.Algorithm))]:
        assert re.search(rf"^\| `{field}\b", PAGE, re.MULTILINE), field


def test_the_constant_policy_trains_resumes_and_is_the_best_action_tried(folder: Path) -> None:
    command = ["train", "constant", "point-robot", "--plugin", "constant", "--num-train-tasks", "4"]
    command += ["--num-test-tasks", "2", "--iterations", "5", "--out", "run"]
    assert cli.main(command) == 0
    tried = column(folder / "run" / "metrics.csv", "tried")
    assert len(tried) == 5 and len(set(tried)) == 5
    assert json.loads((folder / "run" / "config.json").read_text())["plugins"] == ["constant"]
    agent = nacre.load("run")
    kept = nacre.score(
        nacre.evaluate(agent.family, agent.tasks.train, agent.functions, agent.params, jax.random.key(0), 1, 1)
    )
    assert kept == pytest.approx(max(tried), abs=3.0)  # other starts
    nacre.resume("run", iterations=7)
    straight = nacre.train("constant", "point-robot", num_train_tasks=4, num_test_tasks=2, iterations=7, out="whole")
    assert column(folder / "run" / "metrics.csv", "tried") == column(straight.path / "metrics.csv", "tried")


def test_a_run_names_its_plugin_itself(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In another process, which was told of no plugin."""
    assert (
        cli.main(["train", "constant", "point-robot", "--plugin", "constant", "--iterations", "1", "--out", "run"]) == 0
    )
    found = subprocess.run(
        [sys.executable, "-m", "nacre", "evaluate", "run", "--json"], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr
    assert len(json.loads(found.stdout)["tasks"]) == 30
    (folder / "constant.py").unlink()
    del sys.modules["constant"]
    registry._registered.clear()
    capsys.readouterr()
    assert cli.main(["evaluate", "run"]) == 2
    gone = capsys.readouterr().err
    assert "the plugin constant cannot be imported" in gone and "Traceback" not in gone


def test_pearl_with_a_huber_loss_differs_from_pearl_in_that_loss_alone(
    folder: Path, smoke_run: Callable[[str], Path]
) -> None:
    train = ["train", "pearl-huber", "point-robot", "--plugin", "huber", "--preset", "smoke", "--out", "run"]
    assert cli.main(train) == 0
    algorithm = registry.ALGORITHMS["pearl-huber"]
    assert algorithm.presets == registry.ALGORITHMS["pearl"].presets
    plain = smoke_run("point-robot")
    losses = [column(path / "metrics.csv", "critic_loss")[0] for path in (folder / "run", plain)]
    assert losses[0] < 0.1 * losses[1]  # errors of about 100: linear, not squared
    assert column(folder / "run" / "metrics.csv", "env_steps") == column(plain / "metrics.csv", "env_steps")


def test_a_replaced_loss_is_the_one_that_is_descended() -> None:
    """The gradient of the critics with Huber's loss, by hand: that of Huber's of the same targets."""
    config = PearlSettings(latent_dim=2, hidden_dim=4, encoder_hidden_dim=4)
    networks, _ = jax.jit(pearl.init_learner, static_argnums=(0, 1, 2))(2, 2, config, jax.random.key(0))
    rng = np.random.default_rng(0)
    obs, action, following = rng.normal(size=(3, 2, 5, 2)).astype(np.float32)
    reward = rng.normal(size=(2, 5)).astype(np.float32)
    batch = nacre.Transition(obs, action, reward, reward, np.ones_like(reward), following)
    noise = soft_actor_critic.Noise(jnp.zeros((2, 2)), jnp.zeros((2, 5, 2)))

    def huber(q: Any, target: Any) -> Any:
        return jnp.mean(optax.huber_loss(q, target))

    objective = pearl.OBJECTIVE._replace(critic_error=huber)
    value, (z, metrics) = jax.jit(soft_actor_critic.critic_loss, static_argnums=(5, 6))(
        (networks.encoder, networks.critics), networks, batch, batch, noise, config, objective
    )
    target = 5.0 * reward + 0.99 * np.asarray(networks.target_value(following, z)[..., 0])
    q = [np.asarray(values) for values in soft_actor_critic.q_values(networks.critics, obs, action, z)]
    error = [np.abs(values - target) for values in q]
    expected = sum(np.where(e <= 1, 0.5 * e**2, e - 0.5).mean() for e in error)
    np.testing.assert_allclose(metrics["critic_loss"], expected, rtol=1e-5)
    np.testing.assert_allclose(value, expected + config.kl_weight * metrics["kl"], rtol=1e-5)


@dataclasses.dataclass(frozen=True)
class Settings(nacre.MethodSettings):
    pass


def algorithm(**changes: Any) -> nacre.Algorithm:
    parts: dict[str, Any] = dict.fromkeys(("init", "meta_train", "make_agent", "agent_params"), lambda *given: None)
    return nacre.Algorithm(**({"settings": Settings} | parts | changes))


@pytest.mark.parametrize(
    ("name", "what", "sentence"),
    [
        ("pearl", algorithm(), "is one of nacre's algorithms"),
        ("No Spaces", algorithm(), "cannot be named"),
        ("a\x1b[31m", algorithm(), "cannot be named"),
        ("mine", object(), "must be a nacre.Algorithm"),
        ("mine", algorithm(settings=dict), "derived from nacre.MethodSettings"),
        ("mine", algorithm(offline=True), "derived from presets.offline.OfflineSettings"),
        ("mine", algorithm(presets={"paper": {"*": {"iteration": 3}}}), "sets 'iteration' for *"),
    ],
)
def test_an_algorithm_that_cannot_work_is_refused_when_it_is_registered(name: str, what: Any, sentence: str) -> None:
    with pytest.raises(NacreError, match=re.escape(sentence)) as raised:
        nacre.register_algorithm(name, what)
    assert "\n" not in str(raised.value) and "\x1b" not in str(raised.value)
    assert name in ("pearl",) or name not in registry.ALGORITHMS


def test_installed_packages_offer_algorithms_and_families(monkeypatch: pytest.MonkeyPatch) -> None:
    own = type("OfferedRobot", (PointRobot,), {"name": "offered-robot"})
    offers = {"nacre.algorithms": ("offered", algorithm()), "nacre.families": ("offered-robot", own)}

    def entry_points(group: str) -> dict[str, EntryPoint]:
        name, _ = offers[group]
        return {name: EntryPoint(name, f"{__name__}:{name}", group)}

    monkeypatch.setattr(plugins, "entry_points", entry_points)
    monkeypatch.setattr(EntryPoint, "load", lambda point: offers[point.group][1])
    assert registry.find_algorithm("offered") is offers["nacre.algorithms"][1]
    assert "offered" in list(registry.ALGORITHMS)
    assert catalog.find_family("offered-robot") is own
    assert catalog.registered_by("offered-robot") == ""

    @dataclasses.dataclass(frozen=True)
    class Unwritable(PointRobot):
        table: dict[str, int] = dataclasses.field(default_factory=dict)
        name: ClassVar[str] = "unwritable-robot"

    offers["nacre.families"] = ("unwritable-robot", Unwritable)
    with pytest.raises(NacreError, match="the option 'table' of unwritable-robot is of type dict"):
        nacre.resolve("pearl", "unwritable-robot")
    offers["nacre.families"] = ("other", own)
    with pytest.raises(NacreError, match="must be a class of a family with that name"):
        catalog.find_family("other")


def test_a_method_whose_setting_is_also_the_familys_option_is_refused_with_that_family() -> None:
    """The setting came after the family: `goal_radius` would set either of them."""

    @dataclasses.dataclass(frozen=True)
    class Clashing(nacre.MethodSettings):
        goal_radius: float = 1.0

    nacre.register_algorithm("clashing", algorithm(settings=Clashing))
    with pytest.raises(NacreError, match="clashing on sparse-point-robot has two fields named 'goal_radius'"):
        nacre.resolve("clashing", "sparse-point-robot")
    assert nacre.resolve("clashing", "point-robot", goal_radius=2.0).settings.goal_radius == 2.0
