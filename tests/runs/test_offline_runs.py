"""Runs that learn from a data set: their tasks, family and logs are its, and config.json knows it by its contents."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import made_up_data as made_up
import nacre
from command_line import output, refusal
from nacre.algorithms import registry
from nacre.cli import main as cli
from nacre.data.dataset import DataSet, open_data_set
from nacre.data.slices import slice_data_set
from nacre.errors import NacreError
from nacre.learning import offline
from nacre.presets.offline import OfflineSettings
from nacre.runs import data_set as of_run
from nacre.runs.experiment import resolve
from nacre.runs.trainer import resume
from nacre.types import Agent


@dataclasses.dataclass(frozen=True)
class MeanSettings(OfflineSettings):
    """Of a method that does the mean of the logged actions, whatever the task."""

    protocol: str = "online-prior"
    meta_batch: int = 2
    batch_size: int = 8
    num_train_steps_per_iteration: int = 3
    iterations: int = 2

    @property
    def protocols(self) -> tuple[str, ...]:
        return ("online-prior",)


def make_agent(family: Any, settings: Any) -> Agent:
    return Agent(
        begin=lambda params, task, key: jnp.zeros(next(iter(task.values())).shape[0]),
        act=lambda params, memory, obs, key, explore: (jnp.broadcast_to(params, (len(obs), len(params))), memory),
        observe=lambda params, memory, transition: memory,
        end_episode=lambda params, memory, key: memory,
        explores=lambda index, scored_episode: False,
    )


_agents: dict[Any, Agent] = {}


def choose(logs: offline.Logs, key: Any) -> tuple[Any, Any]:
    task_key, row_key = jax.random.split(key)
    task = jax.random.randint(task_key, (2,), 0, logs.first_row.shape[0])
    return offline.uniform_rows(logs, task, 8, row_key), ()


def learn(learner: Any, batch: Any, rest: Any) -> tuple[Any, dict[str, Any]]:
    mean, number = learner
    step = jnp.mean(batch.action, axis=(0, 1)) - mean
    return (mean + step / (number + 1), number + 1), {"step": jnp.abs(step).sum()}


_procedures: dict[Any, offline.Procedure] = {}


def meta_train(family: Any, settings: Any, tasks: Any, states: Any, logs: offline.Logs) -> Iterator[Any]:
    seen.append(logs)
    procedure = _procedures.setdefault(family, offline.Procedure(choose, learn, family.obs_dim, False))
    return offline.meta_train(settings, logs, states, procedure)


seen: list[offline.Logs] = []

MEAN = nacre.Algorithm(
    settings=MeanSettings,
    init=lambda family, settings, seed: offline.begun(
        jnp.zeros(family.action_dim), jnp.zeros(()), jax.random.key(seed)
    ),
    meta_train=meta_train,
    make_agent=lambda family, settings: _agents.setdefault((family, settings), make_agent(family, settings)),
    agent_params=lambda state: state.networks,
    transfer=offline.transfer,
    offline=True,
)


@pytest.fixture(autouse=True)
def mean_is_known() -> Iterator[None]:
    nacre.register_algorithm("mean-action", MEAN)
    yield
    del registry._registered["mean-action"], registry._registered_by["mean-action"]
    seen.clear()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        made_up.write()
    return root


@pytest.fixture
def data(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataSet:
    shutil.copytree(written, tmp_path / "sets")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    return open_data_set(made_up.ID)


def train(data: DataSet, out: Path, **fields: Any) -> nacre.RunDirectory:
    return nacre.train("mean-action", data.family.name, data=made_up.ID, out=out, **fields)


def test_a_run_has_the_tasks_of_its_data_set_and_learns_from_its_logs(data: DataSet, tmp_path: Path) -> None:
    run = train(data, tmp_path / "run")
    for name, values in data.train.items():
        np.testing.assert_array_equal(run.tasks.train[name], values)
        np.testing.assert_array_equal(run.tasks.test[name], data.test[name])
    settings = run.experiment.settings
    assert (settings.num_train_tasks, settings.num_test_tasks) == tuple(
        len(next(iter(tasks.values()))) for tasks in (data.train, data.test)
    )
    wanted = data.logs("train", settings.discount)
    np.testing.assert_array_equal(seen[0].rows, wanted.rows)
    np.testing.assert_array_equal(seen[0].return_to_go, wanted.return_to_go)
    assert not seen[0].on_host
    table = run.metrics()
    assert table["env_steps"].tolist() == [0, 0] and table["grad_steps"].tolist() == [3, 6]
    config = json.loads((run.path / "config.json").read_text())
    assert config["options"]["data"] == made_up.ID and config["data_hash"] == data.content_hash
    assert nacre.RunDirectory(run.path).experiment == run.experiment


def test_the_first_tasks_alone_are_learnt_from_where_fewer_are_asked_for(data: DataSet, tmp_path: Path) -> None:
    run = train(data, tmp_path / "run", num_train_tasks=2, iterations=1)
    assert all(len(values) == 2 for values in run.tasks.train.values())
    assert seen[0].first_row.shape == seen[0].num_rows.shape == (2,)
    with pytest.raises(NacreError, match=r"num_train_tasks is 99, but the data set .* has \d+ train tasks"):
        train(data, tmp_path / "other", num_train_tasks=99)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("method", ["bc", "pearl"])
def test_a_data_set_without_train_or_test_tasks_is_refused(data: DataSet, split: str, method: str) -> None:
    none: dict[str, Any] = {f"{split}_tasks": []}
    part = slice_data_set(data, f"nacre/{method}/no-{split}-v0", **none)
    with pytest.raises(NacreError, match=f"the data set '{part.id}' has no {split} tasks, and a run is trained on"):
        resolve(method, "point-robot", data=part.id)
    with pytest.raises(NacreError, match="has no data in its"):
        part.logs(split, 0.9)


def test_a_run_continues_as_if_it_had_not_stopped(data: DataSet, tmp_path: Path) -> None:
    whole = train(data, tmp_path / "whole")
    train(data, tmp_path / "part", iterations=1)
    resume([tmp_path / "part"], iterations=2)
    for column in ("grad_steps", "step"):
        np.testing.assert_array_equal(nacre.RunDirectory(tmp_path / "part").metrics()[column], whole.metrics()[column])


def test_logs_that_take_much_of_the_memory_stay_in_their_file(
    data: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = train(data, tmp_path / "memory")
    monkeypatch.setattr(of_run, "SHARE_OF_MEMORY", 1e-12)
    in_file = train(data, tmp_path / "file")
    assert seen[-1].on_host and not seen[0].on_host
    np.testing.assert_array_equal(in_file.metrics()["step"], in_memory.metrics()["step"])


def test_a_data_set_that_changed_is_refused(data: DataSet, tmp_path: Path) -> None:
    train(data, tmp_path / "run", iterations=1)
    shutil.rmtree(data.path)
    with made_up.writer() as other:
        other.add(made._replace(reward=made.reward + 1) for made in made_up.made_up())
    with pytest.raises(NacreError, match="has changed since the run was made"):
        resume([tmp_path / "run"], iterations=2)
    assert nacre.load(tmp_path / "run").evaluate(episodes=1)[0].shape[-1] == 1  # acting needs no data set


def test_a_method_that_learns_online_takes_the_tasks_of_a_data_set(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = nacre.train("random", "point-robot", preset="smoke", data=made_up.ID, out=tmp_path / "run")
    assert "and learns online" in capsys.readouterr().err
    for split in ("train", "test"):
        np.testing.assert_array_equal(getattr(run.tasks, split)["goal"], data.tasks(split)["goal"])
    assert run.evaluations()["task"].max() == 1
    alone = resolve("oracle", "point-robot", "smoke", data=made_up.ID, single_task=1).draw_tasks()
    with pytest.raises(NacreError, match=r"0 to 1, or -1"):  # of the data's two, whatever the preset has
        resolve("oracle", "point-robot", "smoke", data=made_up.ID, single_task=2)
    np.testing.assert_array_equal(alone.train["goal"], data.test["goal"][1:])
    np.testing.assert_array_equal(alone.test["goal"], data.test["goal"][1:])
    whole = resolve("oracle", "point-robot", "smoke", data=made_up.ID).settings
    assert (whole.num_train_tasks, whole.num_test_tasks) == (3, 2)
    with pytest.raises(NacreError, match="num_train_tasks is 4, but the data set"):  # which the preset has too
        resolve("oracle", "point-robot", "smoke", data=made_up.ID, num_train_tasks=4)
    with pytest.raises(NacreError, match="test_tasks_from is 100, but the test tasks are those of the data set"):
        resolve("oracle", "point-robot", "smoke", data=made_up.ID, test_tasks_from=100)
    flags = ["--preset", "smoke", "--data", made_up.ID, "--out", str(tmp_path / "other")]
    told = refusal(capsys, "train", "random", "point-robot", *flags, "--num-train-tasks", "4")
    assert "num_train_tasks is 4, but the data set" in told
    output(capsys, "train", "random", "point-robot", *flags)
    assert nacre.RunDirectory(tmp_path / "other").experiment.settings.num_train_tasks == 3
    some = resolve("oracle", "point-robot", "smoke", data=made_up.ID, num_train_tasks=2).draw_tasks()
    np.testing.assert_array_equal(some.train["goal"], data.train["goal"][:2])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        (
            "train mean-action point-robot",
            "mean-action learns from a data set; name one of 'nacre data list' by --data",
        ),
        ("train random point-robot --preset smoke --data {id} --num-test-tasks 4", "has 2 test tasks"),
        ("train mean-action cheetah-vel --data {id}", "is of point-robot, not of cheetah-vel"),
        ("train mean-action point-robot --data nacre/nothing/mixed-v0", "nacre/nothing/mixed-v0"),
    ],
)
def test_what_cannot_be_is_refused(
    data: DataSet, tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, sentence: str
) -> None:
    assert cli.main([*line.format(id=made_up.ID).split(), "--out", str(tmp_path / "run")]) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.startswith("nacre: ") and told.count("\n") == 1
    assert not (tmp_path / "run").exists()
