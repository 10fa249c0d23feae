"""`nacre adapt`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command_line import Capture, json_output, output, refusal
from nacre.families.catalog import FAMILIES


@pytest.mark.parametrize(
    ("family", "task", "expected"),
    [
        pytest.param("point-wind", "wind=0.03,-0.02", {"wind": [0.03, -0.02]}, marks=pytest.mark.slow),
        pytest.param("point-wind", "wind=0,0", {"wind": [0.0, 0.0]}, marks=pytest.mark.slow),
        ("cheetah-dir", "direction=-1", {"direction": -1.0}),
        ("point-robot", "goal=0.6,-0.8", {"goal": [0.6, -0.8]}),
        pytest.param("sparse-point-robot", "goal=0.6,0.8", {"goal": [0.6, 0.8]}, marks=pytest.mark.slow),
    ],
)
def test_adapt_as_json_gives_return_and_belief_episode_by_episode(
    family: str, task: str, expected: dict[str, Any], smoke_run: Callable[[str], Path], capsys: Capture
) -> None:
    trials = ("--episodes", "2", "--exploration-episodes", "1")
    result = json_output(capsys, "adapt", str(smoke_run(family)), "--task", task, *trials, "--json")
    assert result["task"] == expected
    assert [episode["episode"] for episode in result["episodes"]] == [1, 2]
    for episode in result["episodes"]:
        assert np.isfinite(episode["episode_return"])
        assert episode["length"] == FAMILIES[family].horizon
        assert len(episode["belief_mean"]) == len(episode["belief_std"]) == 5
    first, second = (np.array(episode["belief_std"]) for episode in result["episodes"])
    assert (second < first).all()  # every transition narrows a product of Gaussians
    assert (first < 1.0).all()


def test_adapt_takes_the_task_in_both_spellings_and_follows_its_seed(point_run: str, capsys: Capture) -> None:
    results = [
        json_output(capsys, "adapt", point_run, "--json", *flags)
        for flags in (["--task", "goal=0.1,0.2"], ["--task=goal=0.1,0.2"], ["--task=goal=0.1,0.2", "--seed=1"])
    ]
    assert results[0] == results[1] != results[2]
    assert len(results[0]["episodes"]) == 3  # as the run was configured


@pytest.mark.parametrize("flags", [["--video-size", "640"], ["--video-fps", "10"]])
def test_flags_of_a_video_are_refused_without_one(flags: list[str], point_run: str, capsys: Capture) -> None:
    assert "name its file by --video" in refusal(capsys, "adapt", point_run, "--task", "goal=0.1,0.2", *flags)


def test_adapt_for_a_person_is_a_table_with_a_row_for_every_episode(point_run: str, capsys: Capture) -> None:
    shown = output(capsys, "adapt", point_run, "--task", "goal=0.5,0.5", "--episodes", "4")
    assert "goal=0.5,0.5" in shown
    assert "belief mean" in shown


@pytest.mark.parametrize(
    ("family", "task"),
    [
        ("point-robot", "goal=1.5,0"),
        pytest.param("point-wind", "wind=0.5,0", marks=pytest.mark.slow),
        ("cheetah-dir", "direction=0.5"),
    ],
)
def test_a_task_out_of_range_needs_a_word_more(
    family: str, task: str, smoke_run: Callable[[str], Path], capsys: Capture
) -> None:
    arguments = ["adapt", str(smoke_run(family)), "--task", task, "--json"]
    assert "--allow-ood" in refusal(capsys, *arguments)
    result = json_output(capsys, *arguments, "--allow-ood")
    assert len(result["episodes"]) == 3


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--task", "velocity=1"], "goal=NUMBER,NUMBER"),
        (["--task", "goal=1"], "goal=NUMBER,NUMBER"),
        (["--task", "goal=0,0,0"], "goal=NUMBER,NUMBER"),
        (["--task", "goal=here"], "goal=NUMBER,NUMBER"),
        (["--task", "goal"], "goal=NUMBER,NUMBER"),
        (["--task", ""], "goal=NUMBER,NUMBER"),
        (["--task", "goal=nan,0", "--allow-ood"], "goal=NUMBER,NUMBER"),
        (["--task", "goal=inf,0", "--allow-ood"], "goal=NUMBER,NUMBER"),
        (["--task", "goal=0,0", "--episodes", "0"], "episodes"),
        (["--task", "goal=0,0", "--seed", "-1"], "seed"),
        (["--task", "goal=0,0", "--allow-odd"], "did you mean '--allow-ood'?"),
        ([], "--task"),
        (["--task"], "--task"),
    ],
)
def test_what_cannot_be_adapted_to_is_refused(flags: list[str], part: str, point_run: str, capsys: Capture) -> None:
    assert part in refusal(capsys, "adapt", point_run, *flags)
