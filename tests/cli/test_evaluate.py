"""`nacre evaluate`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import nacre
from command_line import Capture, json_output, output, refusal


def test_evaluate_as_json_gives_returns_tasks_the_scored_episode_and_the_score(point_run: str, capsys: Capture) -> None:
    result = json_output(capsys, "evaluate", point_run, "--json")
    usual = {"returns", "tasks", "scored_episode", "exploration_episodes", "exploration", "score"}
    assert set(result) == usual | {"protocol", "context_transitions", "forgetting", "resample"}
    assert (result["forgetting"], result["resample"]) == (1.0, "episode")
    assert result["protocol"] == "online-prior" and result["context_transitions"] == [[40] * 3]  # two episodes
    returns = np.array(result["returns"])
    tasks = json.loads((Path(point_run) / "tasks.json").read_text())["test"]
    assert returns.shape == (1, 3, 3)  # [repeat][task][episode]
    assert np.isfinite(returns).all() and (returns < 0).all()  # minus the distance, 20 steps
    assert result["tasks"] == tasks
    assert result["scored_episode"] == 3
    assert np.isclose(result["score"], returns[:, :, -1].mean())


def test_evaluate_on_train_tasks_with_other_episodes_and_repeats(point_run: str, capsys: Capture) -> None:
    flags = ["--tasks", "train", "--episodes", "2", "--repeats", "4"]
    result = json_output(capsys, "evaluate", point_run, "--json", *flags)
    assert np.shape(result["returns"]) == (4, 4, 2)
    assert result["tasks"] == json.loads((Path(point_run) / "tasks.json").read_text())["train"]
    assert result["scored_episode"] == 2


def test_evaluate_on_fresh_tasks_draws_new_ones_from_its_seed(point_run: str, capsys: Capture) -> None:
    first, again, other = (
        json_output(capsys, "evaluate", point_run, "--json", "--tasks", "fresh:5", "--seed", seed) for seed in "112"
    )
    assert first == again
    assert len(first["tasks"]) == np.shape(first["returns"])[1] == 5
    assert first["tasks"] != other["tasks"]
    known = json.loads((Path(point_run) / "tasks.json").read_text())
    assert not any(task in known["train"] + known["test"] for task in first["tasks"])
    assert all(abs(x) <= 1 for task in first["tasks"] for x in task["goal"])


def test_evaluate_changes_nothing_in_the_run(point_run: str, capsys: Capture) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(point_run).rglob("*")}
    json_output(capsys, "evaluate", point_run, "--json")
    assert {path: path.stat().st_mtime_ns for path in Path(point_run).rglob("*")} == before


def test_tasks_of_many_numbers_leave_room_for_their_returns(capsys: Capture) -> None:
    from nacre.cli.tables import task_text
    from nacre.report import trials

    tasks = nacre.make_family("walker-params").sample_tasks(np.random.default_rng(0), 2)
    for text in (task_text({"exponents": tasks["exponents"][0].tolist()}), trials.task_text(tasks, 0)):
        assert text.startswith("exponents=") and text.endswith("... (65)") and len(text) < 45


def test_evaluate_for_a_person_is_a_table_with_a_row_for_every_task_and_the_score(
    point_run: str, capsys: Capture
) -> None:
    shown = output(capsys, "evaluate", point_run)
    assert all(f"episode {i}" in shown for i in (1, 2, 3))
    assert shown.count("goal=") == 3
    score = json_output(capsys, "evaluate", point_run, "--json")["score"]
    assert shown.splitlines()[-1] == f"score (mean return of episode 3): {score:.3f}"


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--tasks", "fresh:0"], "fresh:N"),
        (["--tasks", "fresh:-2"], "fresh:N"),
        (["--tasks", "fresh:many"], "fresh:N"),
        (["--tasks", "fresh"], "fresh:N"),
        (["--tasks", "tests"], "'tests'"),
        (["--tasks", ""], "fresh:N"),
        (["--episodes", "0"], "episodes"),
        (["--episodes", "-1"], "episodes"),
        (["--episodes", "few"], "--episodes"),
        (["--repeats", "0"], "repeats"),
        (["--seed", "-1"], "seed"),
        (["--seed", "99999999999999999999"], "seed"),
        (["--task", "goal=0,0"], "did you mean '--tasks'?"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(flags: list[str], part: str, point_run: str, capsys: Capture) -> None:
    assert part in refusal(capsys, "evaluate", point_run, "--json", *flags)
