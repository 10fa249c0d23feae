"""The files of a run: made whole or not at all, read back exactly, refused with a sentence when they are damaged."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES
from nacre.runs import directory
from nacre.runs.directory import RunDirectory, tasks_from_json, tasks_to_json
from nacre.runs.experiment import Experiment, resolve
from nacre.runs.tables import EVAL_COLUMNS, eval_rows


@pytest.fixture
def chosen() -> Experiment:
    return resolve("pearl", "point-robot", "smoke")


@pytest.fixture
def run(chosen: Experiment, tmp_path: Path) -> RunDirectory:
    return RunDirectory.create(tmp_path / "run", chosen)


def assert_one_sentence(error: NacreError) -> None:
    """Says what is wrong and what to do, in one line."""
    assert "\n" not in str(error)
    assert str(error).endswith(".") or str(error).endswith("?")


def edited(file: Path, change: Callable[[dict], object]) -> None:
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


# ----------------------------------------------------------------------------------------------------------------------
# Creation


def test_a_new_run_holds_its_configuration_and_tasks_and_nothing_else(run: RunDirectory, chosen: Experiment) -> None:
    assert sorted(os.listdir(run.path)) == ["config.json", "tasks.json"]
    opened = RunDirectory(run.path)
    assert opened.experiment == chosen
    assert len(opened.tasks.train["goal"]) == chosen.settings.num_train_tasks
    assert len(opened.tasks.test["goal"]) == chosen.settings.num_test_tasks


def test_missing_parent_directories_are_made(chosen: Experiment, tmp_path: Path) -> None:
    RunDirectory.create(tmp_path / "runs" / "point-robot" / "pearl" / "seed-0", chosen)
    assert os.listdir(tmp_path / "runs" / "point-robot" / "pearl") == ["seed-0"]


def test_other_people_may_read_a_run(run: RunDirectory) -> None:
    assert run.path.stat().st_mode & 0o777 == 0o755


def test_a_run_that_cannot_be_written_whole_is_not_made_at_all(
    chosen: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(tasks: object) -> str:
        raise OSError("no space left on device")

    monkeypatch.setattr(directory, "tasks_to_json", full_disk)
    with pytest.raises((OSError, NacreError)):
        RunDirectory.create(tmp_path / "run", chosen)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["run", "empty directory", "file", "link to nowhere"])
def test_a_place_that_is_taken_is_refused_and_left_alone(kind: str, chosen: Experiment, tmp_path: Path) -> None:
    place = tmp_path / "place"
    if kind == "run":
        RunDirectory.create(place, chosen)
    elif kind == "empty directory":
        place.mkdir()
    elif kind == "file":
        place.write_text("mine")
    else:
        place.symlink_to(tmp_path / "nowhere")
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(NacreError) as raised:
        RunDirectory.create(place, chosen)
    assert_one_sentence(raised.value)
    assert str(place) in str(raised.value)
    assert "--out" in str(raised.value)
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_place_below_a_file_is_refused(chosen: Experiment, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NacreError, match="--out"):
        RunDirectory.create(tmp_path / "file" / "run", chosen)
    assert (tmp_path / "file").read_text() == "mine"


def test_one_run_is_trained_by_one_at_a_time(run: RunDirectory) -> None:
    second = RunDirectory(run.path).locked()
    with run.locked(), pytest.raises(NacreError, match="another process is training"):
        second.__enter__()
    with RunDirectory(run.path).locked():  # free again
        assert RunDirectory(run.path).experiment == run.experiment  # reading needs no lock


def test_every_resumption_is_recorded_beside_the_versions_that_began_the_run(
    run: RunDirectory, chosen: Experiment
) -> None:
    began = json.loads((run.path / "config.json").read_text())
    for grad_steps in (10, 30):
        run.record_resume(chosen, grad_steps)
    now = json.loads((run.path / "config.json").read_text())
    assert [entry["grad_steps"] for entry in now["resumed"]] == [10, 30]
    assert all(entry["nacre"] == began["versions"]["nacre"] for entry in now["resumed"])
    assert now | {"resumed": []} == began | {"resumed": []}


# ----------------------------------------------------------------------------------------------------------------------
# tasks.json


@pytest.mark.parametrize("name", FAMILIES)
def test_tasks_json_gives_back_exactly_the_tasks_that_it_was_written_from(name: str) -> None:
    experiment = resolve("pearl", name)
    family, settings = experiment.family, experiment.settings
    tasks = family.task_set(1337, settings.num_train_tasks, settings.num_test_tasks)
    again = tasks_from_json(tasks_to_json(tasks), experiment)
    assert (again.task_seed, again.version) == (tasks.task_seed, tasks.version)
    for split in ("train", "test"):
        before, after = getattr(tasks, split), getattr(again, split)
        assert list(before) == list(after) == list(family.parameters)
        for parameter in before:
            assert after[parameter].dtype == np.float64
            assert after[parameter].tobytes() == np.asarray(before[parameter], dtype=np.float64).tobytes()


def test_tasks_json_lists_one_object_per_task_in_the_order_of_the_column_task(run: RunDirectory) -> None:
    data = json.loads((run.path / "tasks.json").read_text())
    assert [task["goal"] for task in data["test"]] == run.tasks.test["goal"].tolist()
    assert [task["goal"] for task in data["train"]] == run.tasks.train["goal"].tolist()


# ----------------------------------------------------------------------------------------------------------------------
# Damage

DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda file: file.write_text(""),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "garbage": lambda file: file.write_bytes(b"\x93\xff\x00garbage" * 40),
    "another JSON value": lambda file: file.write_text("[1, 2]"),
    "a number": lambda file: file.write_text("3"),
    "an empty object": lambda file: file.write_text("{}"),
    "a directory": lambda file: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("file", ["config.json", "tasks.json"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_refused_with_a_sentence_that_names_the_run(
    file: str, damage: str, run: RunDirectory
) -> None:
    DAMAGE[damage](run.path / file)
    with pytest.raises(NacreError) as raised:
        RunDirectory(run.path)
    assert_one_sentence(raised.value)
    assert str(run.path) in str(raised.value)


WRONG_CONFIGURATIONS: dict[str, Callable[[dict], object]] = {
    "unknown algorithm": lambda data: data.update(algorithm="perl"),
    "unknown family": lambda data: data.update(family="point-robt"),
    "no settings": lambda data: data.pop("settings"),
    "settings are a number": lambda data: data.update(settings=3),
    "options are nothing": lambda data: data.update(options=None),
    "unknown setting": lambda data: data["settings"].update(latent_dims=5),
    "text for a whole number": lambda data: data["settings"].update(latent_dim="5"),
    "a fraction for a whole number": lambda data: data["settings"].update(latent_dim=5.5),
    "null for a whole number": lambda data: data["settings"].update(latent_dim=None),
    "zero of what is needed": lambda data: data["settings"].update(latent_dim=0),
    "text for yes or no": lambda data: data["settings"].update(use_next_obs_in_context="no"),
    "not a number": lambda data: data["settings"].update(learning_rate=float("nan")),
    "text for a seed": lambda data: data["options"].update(seed="x"),
    "negative seed": lambda data: data["options"].update(seed=-1),
    "option of another family": lambda data: data["family_options"].update(goal_radius=0.2),
}


@pytest.mark.parametrize("wrong", WRONG_CONFIGURATIONS)
def test_a_configuration_with_wrong_contents_is_refused(wrong: str, run: RunDirectory) -> None:
    edited(run.path / "config.json", WRONG_CONFIGURATIONS[wrong])
    with pytest.raises(NacreError) as raised:
        RunDirectory(run.path)
    assert_one_sentence(raised.value)


WRONG_TASKS: dict[str, Callable[[dict], object]] = {
    "another version": lambda data: data.update(version=2),
    "no train tasks": lambda data: data.pop("train"),
    "a train task too few": lambda data: data["train"].pop(),
    "a test task too many": lambda data: data["test"].append(data["test"][0]),
    "an empty list of test tasks": lambda data: data["test"].clear(),
    "a task without its parameter": lambda data: data["train"][0].pop("goal"),
    "a goal with one component in one task": lambda data: data["train"][0].update(goal=[1.0]),
    "a goal with one component in all tasks": lambda data: [task.update(goal=0.5) for task in data["test"]],
    "text for a goal": lambda data: data["train"][0].update(goal="here"),
    "not a number": lambda data: data["train"][0].update(goal=[float("nan"), 0.0]),
}


@pytest.mark.parametrize("wrong", WRONG_TASKS)
def test_tasks_with_wrong_contents_are_refused(wrong: str, run: RunDirectory) -> None:
    edited(run.path / "tasks.json", WRONG_TASKS[wrong])
    with pytest.raises(NacreError) as raised:
        RunDirectory(run.path)
    assert_one_sentence(raised.value)


def test_a_path_without_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "nothing", tmp_path / "file", tmp_path):
        with pytest.raises(NacreError) as raised:
            RunDirectory(path)
        assert_one_sentence(raised.value)


# ----------------------------------------------------------------------------------------------------------------------
# CSV


def test_rows_are_appended_below_one_header(run: RunDirectory) -> None:
    returns = np.array([[[1.5, -2.0], [3.25, 0.1]]])  # [repeat, task, episode]
    run.append("eval.csv", EVAL_COLUMNS, eval_rows(returns, "test", 320, 10, 1.25))
    run.append("eval.csv", EVAL_COLUMNS, eval_rows(returns[:, :1], "train", 480, 20, 2.0))
    assert (run.path / "eval.csv").read_text().splitlines() == [
        "env_steps,grad_steps,wall_seconds,split,task,repeat,episode,return",
        "320,10,1.2,test,0,0,1,1.5",
        "320,10,1.2,test,0,0,2,-2",
        "320,10,1.2,test,1,0,1,3.25",
        "320,10,1.2,test,1,0,2,0.1",
        "480,20,2.0,train,0,0,1,1.5",
        "480,20,2.0,train,0,0,2,-2",
    ]


def test_cutting_back_drops_the_rows_after_an_update_in_both_files(run: RunDirectory) -> None:
    files = {
        "metrics.csv": ("env_steps,grad_steps,x\n", ["1,10,a\n", "2,20,b\n", "3,30,c\n"]),
        "eval.csv": ("grad_steps,env_steps\n", ["10,1\n", "20,2\n", "20,2\n", "30,3\n"]),
    }
    for file, (header, rows) in files.items():
        (run.path / file).write_text(header + "".join(rows))
    run.cut_back(20)
    assert (run.path / "metrics.csv").read_text() == "env_steps,grad_steps,x\n1,10,a\n2,20,b\n"
    assert (run.path / "eval.csv").read_text() == "grad_steps,env_steps\n10,1\n20,2\n20,2\n"
    run.cut_back(0)
    assert (run.path / "eval.csv").read_text() == "grad_steps,env_steps\n"
    assert sorted(os.listdir(run.path)) == ["config.json", "eval.csv", "metrics.csv", "tasks.json"]


@pytest.mark.parametrize("unfinished", ["2", "2,", "2,20", "2,20,0.5", "2,1"])
def test_cutting_back_drops_a_last_line_that_was_not_finished(unfinished: str, run: RunDirectory) -> None:
    (run.path / "metrics.csv").write_text("env_steps,grad_steps,x\n1,10,0.25\n" + unfinished)
    run.cut_back(20)
    assert (run.path / "metrics.csv").read_text() == "env_steps,grad_steps,x\n1,10,0.25\n"


@pytest.mark.parametrize("header", ["", "env_st", "env_steps,grad_steps,wall_se"])
def test_after_an_unfinished_header_the_next_row_comes_below_a_whole_one(header: str, run: RunDirectory) -> None:
    (run.path / "eval.csv").write_text(header)
    run.cut_back(0)
    run.append("eval.csv", EVAL_COLUMNS, eval_rows(np.ones((1, 1, 1)), "test", 320, 10, 1.0))
    assert (run.path / "eval.csv").read_text().splitlines() == [",".join(EVAL_COLUMNS), "320,10,1.0,test,0,0,1,1"]


@pytest.mark.parametrize(
    "content", [b"env_steps,grad_steps\n1,ten\n", b"env_steps,grad_steps\n1\n", b"\xff\xfe\x00\x93"]
)
def test_a_damaged_csv_is_refused_with_a_sentence_that_names_it(content: bytes, run: RunDirectory) -> None:
    (run.path / "eval.csv").write_bytes(content)
    with pytest.raises(NacreError, match=r"eval\.csv") as raised:
        run.cut_back(10)
    assert_one_sentence(raised.value)
    assert (run.path / "eval.csv").read_bytes() == content


# ----------------------------------------------------------------------------------------------------------------------
# Names, races, permissions


@pytest.mark.parametrize("place", ["x" * 300, "y" * 300 + "/run", "run/..", "new/../..", "."])
def test_a_place_that_cannot_be_made_is_refused_in_one_sentence(
    place: str, chosen: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for use in (lambda: RunDirectory.create(Path(place), chosen), lambda: RunDirectory(Path(place))):
        with pytest.raises(NacreError) as raised:
            use()
        assert_one_sentence(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_of_many_that_begin_in_one_place_at_once_one_wins_and_the_others_are_told(
    chosen: Experiment, tmp_path: Path
) -> None:
    barrier = threading.Barrier(15)

    def begin(number: int) -> str:
        barrier.wait()
        try:
            RunDirectory.create(tmp_path / "new" / "run", chosen)
        except NacreError as error:
            return str(error)
        return "won"

    with ThreadPoolExecutor(15) as pool:
        told = list(pool.map(begin, range(15)))
    assert told.count("won") == 1
    assert all("exists; continue it with" in sentence for sentence in told if sentence != "won")
    assert os.listdir(tmp_path / "new") == ["run"]


def test_a_configuration_that_is_nested_without_end_is_damaged(run: RunDirectory) -> None:
    (run.path / "config.json").write_text("[" * 100_000)
    with pytest.raises(NacreError, match="damaged or not a run") as raised:
        RunDirectory(run.path)
    assert_one_sentence(raised.value)


def test_a_run_whose_versions_are_not_told_continues_and_is_refused_where_they_make_no_sense(
    run: RunDirectory, chosen: Experiment
) -> None:
    edited(run.path / "config.json", lambda data: data.pop("versions"))
    RunDirectory(run.path).record_resume(chosen, 10)
    assert json.loads((run.path / "config.json").read_text())["versions"] == {}
    edited(run.path / "config.json", lambda data: data.update(resumed=3))
    with pytest.raises(NacreError, match="damaged"):
        RunDirectory(run.path)


def test_without_permission_to_write_a_run_is_not_locked_and_the_sentence_says_what_to_do(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, *args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(NacreError, match=r"cannot write .*lock \(Permission denied\)"), run.locked():
        pass
