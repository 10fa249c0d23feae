"""`nacre list`."""

from __future__ import annotations

import pytest

from command_line import Capture, json_output, output, refusal
from nacre.algorithms.registry import ALGORITHMS
from nacre.families.catalog import FAMILIES


def test_list_as_json_names_families_algorithms_and_presets(capsys: Capture) -> None:
    listed = json_output(capsys, "list", "--json")
    assert listed["families"][:4] == ["point-robot", "sparse-point-robot", "cheetah-dir", "cheetah-vel"]
    assert listed["families"] == list(FAMILIES)
    assert listed["algorithms"] == list(ALGORITHMS)
    assert {"pearl", "rl2", "maml-trpo", "promp", "maesn", "oracle", "random"} <= set(ALGORITHMS)
    assert {"offline-pearl", "focal", "macaw", "bc", "multitask-awr"} <= set(ALGORITHMS)
    assert set(listed["presets"]) == {"paper", "fast", "best", "smoke", "released"}


def test_list_shows_every_family_and_algorithm(capsys: Capture) -> None:
    shown = output(capsys, "list")
    assert all(name in shown for name in [*FAMILIES, *ALGORITHMS])


def test_list_fits_a_terminal(capsys: Capture) -> None:
    lines = output(capsys, "list").splitlines()
    assert len(lines) < 30
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("name", [*FAMILIES, *ALGORITHMS])
def test_list_tells_more_about_every_name(name: str, capsys: Capture) -> None:
    shown = output(capsys, "list", name)
    assert name in shown.splitlines()[0]
    assert "smoke" in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_list_of_a_family_tells_its_sizes_tasks_options_and_presets(capsys: Capture) -> None:
    told = json_output(capsys, "list", "sparse-point-robot", "--json")
    assert (told["observation_dim"], told["action_dim"], told["horizon"], told["can_terminate"]) == (2, 2, 20, False)
    assert told["tasks"] == FAMILIES["sparse-point-robot"].task_range
    assert told["options"] == {"goal_radius": 0.2}
    assert told["presets"]["pearl"] == ["paper", "fast", "best", "smoke"]
    assert told["presets"]["rl2"] == ["paper", "smoke"]
    lines = output(capsys, "list", "sparse-point-robot").splitlines()
    assert ["goal_radius", "0.2"] in [line.split() for line in lines]


def test_list_of_an_algorithm_tells_which_families_a_preset_has(capsys: Capture) -> None:
    told = json_output(capsys, "list", "pearl", "--json")
    assert told["presets"] == {preset: ["all families"] for preset in ("paper", "fast", "best", "smoke")}


def test_list_of_a_name_that_is_none_proposes_the_nearest(capsys: Capture) -> None:
    assert "did you mean 'cheetah-vel'?" in refusal(capsys, "list", "cheetah-vell")
    assert "did you mean 'pearl'?" in refusal(capsys, "list", "perl")
