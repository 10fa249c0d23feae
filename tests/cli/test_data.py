"""`nacre data`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import made_up_data as made_up
from command_line import Capture, json_output, output, refusal
from made_up_data import ID
from nacre.data.dataset import open_data_set

NEW = "nacre/point-robot/part-v0"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("minari")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    references = {"train": {"random": [-9.0, -9, 2], "reference": [3.0, 4, 2]}}
    made_up.write(references=references)
    return tmp_path / "sets"


def test_list_tells_of_data_sets_of_others_and_of_remains(root: Path, capsys: Capture) -> None:
    (root / "someones" / "other-v0" / "data").mkdir(parents=True)
    (root / "someones" / "other-v0" / "data" / "metadata.json").write_text("{}")
    left = root / "nacre" / "point-robot" / ".gone-v0.writing-1-abc"
    left.mkdir()
    told = json_output(capsys, "data", "list", "--json")
    assert told["root"] == str(root)
    assert [(row["id"], row["episodes"], row["train_tasks"], row["test_tasks"]) for row in told["data_sets"]] == [
        (ID, 21, 3, 2)
    ]
    assert [other["id"] for other in told["others"]] == ["someones/other-v0"]
    assert told["unfinished"] == [str(left)]
    shown = output(capsys, "data")
    assert all(name in shown for name in (ID, "someones/other-v0", ".gone-v0", "3 + 2 tasks, 21 episodes"))


def test_an_empty_folder_has_no_data_sets(root: Path, capsys: Capture) -> None:
    shutil.rmtree(root)
    assert output(capsys, "data", "list").startswith("0 data sets in ")


def test_show_tells_tasks_returns_recipe_and_sizes(root: Path, capsys: Capture) -> None:
    told = json_output(capsys, "data", "show", ID, "--json")
    assert told["splits"]["train"]["episodes"] == [3, 3, 3]
    mean = told["splits"]["train"]["return_mean"][0]
    first, _, third = told["splits"]["train"]["normalised"]
    assert first == pytest.approx(100 * (mean + 9) / 12) and third is None
    assert told["splits"]["test"]["normalised"] is None
    assert told["recipe"]["algorithm"] == "none" and "nacre" in told["versions"] and told["bytes"] > 1000
    lines = output(capsys, "data", "show", ID).splitlines()
    assert max(len(line) for line in lines if str(root) not in line) <= 80
    shown = "\n".join(lines)
    assert all(word in shown for word in (ID, "train tasks", "goal=", "normalised", "algorithm: none", "test tasks"))
    assert f"{mean:.1f}" in shown
    assert "policies, train tasks" in shown and "policies, test tasks" not in shown
    assert [line.split() for line in lines if line.split()[-1:] == ["-"]][-1] == ["2", "2.0", "2.0", "-"]


def test_show_tells_how_far_the_last_checkpoint_came_also_of_a_part(root: Path, capsys: Capture) -> None:
    references = {"train": {"random": [-9.0, -9, 2], "reference": [3.0, 4, 2]}}
    last = {"train": [0.0, 4.0, 2.0], "test": [1.0, 1.0]}
    made_up.write(NEW, references=references, recipe={"algorithm": "sac", "last_checkpoint": last})
    told = json_output(capsys, "data", "show", NEW, "--json")["splits"]
    assert told["train"]["last"] == [pytest.approx(75), pytest.approx(100), None] and told["test"]["last"] is None
    lines = output(capsys, "data", "show", NEW).splitlines()
    assert ["0", "-9.0", "3.0", "75"] in map(str.split, lines)
    output(capsys, "data", "slice", NEW, "--id", "nacre/point-robot/less-v0", "--train-tasks", "1,0")
    told = json_output(capsys, "data", "show", "nacre/point-robot/less-v0", "--json")["splits"]
    assert told["train"]["last"] == [pytest.approx(100), pytest.approx(75)]


def test_verify_tells_whether_it_is_whole(root: Path, capsys: Capture) -> None:
    assert "is whole: 21 episodes" in output(capsys, "data", "verify", ID)
    file = root / ID / "data" / "main_data.hdf5"
    content = bytearray(file.read_bytes())
    at = content.find(next(made_up.made_up()).obs.tobytes())
    content[at + 1] ^= 1
    file.write_bytes(content)
    assert "is damaged (" in refusal(capsys, "data", "verify", ID)


def test_remove_deletes_it_and_its_cache_and_nothing_of_others(root: Path, capsys: Capture) -> None:
    other = root / "someones" / "other-v0" / "data" / "metadata.json"
    other.parent.mkdir(parents=True)
    other.write_text(json.dumps({"dataset_id": "someones/other-v0"}))
    assert "that nacre did not write" in refusal(capsys, "data", "remove", "someones/other-v0")
    assert other.exists()
    open_data_set(ID).logs("train", 0.9)
    output(capsys, "data", "remove", ID)
    assert not (root / ID).exists()
    assert "unknown data set" in refusal(capsys, "data", "show", ID)


def test_slice_export_and_import_make_data_sets(root: Path, capsys: Capture, tmp_path: Path) -> None:
    shown = output(capsys, "data", "slice", ID, "--quality", "expert", "--train-tasks", "1:3", "--test-tasks", "0",
                   "--policy-steps", "100:100", "--id", NEW)  # fmt: skip
    assert shown.startswith(f"{NEW}: 4 episodes")
    out, again = str(tmp_path / "out"), "nacre/point-robot/again-v0"
    assert "4 tasks" in output(capsys, "data", "export", NEW, out, "--layout", "d4rl")
    output(
        capsys, "data", "import", "d4rl", out, "--family", "point-robot", "--tasks", f"{out}/tasks.json", "--id", again
    )
    assert json_output(capsys, "data", "show", again, "--json")["splits"]["train"]["episodes"] == [1, 1]
    assert "exists already" in refusal(capsys, "data", "export", NEW, out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["shw"], "unknown action 'shw'; did you mean 'show'"),
        (["show"], "write 'nacre data show ID'"),
        (["verify", "a", "b"], "write 'nacre data verify ID'"),
        (["show", "nacre/point-robot/made-up-v7"], "did you mean 'nacre/point-robot/made-up-v0'"),
        (["slice", ID], "name the new data set"),
        (["slice", ID, "--id", NEW, "--train-tasks", "x"], "--train-tasks is 'x'"),
        (["slice", ID, "--id", NEW, "--train-tasks", "3:3"], "--train-tasks is '3:3', which names no task"),
        (["slice", ID, "--id", NEW, "--test-tasks", "2:1"], "--test-tasks is '2:1', which names no task"),
        (["slice", ID, "--id", NEW, "--policy-steps", "7"], "write FIRST:LAST"),
        (["slice", ID, "--id", NEW, "--policy-steps", f"1:{'9' * 4400}"], "write FIRST:LAST"),
        (["slice", ID, "--id", "no name"], "is no name of a data set"),
        (["slice", ID, "--id", ID], "exists already"),
        (["export", ID, "."], "exists already; name a new folder"),
        (["import", "d4rl", "x", "--id", NEW], "add --family and --tasks"),
        (["import", "d4lr", "x", "--id", NEW, "--family", "point-robot", "--tasks", "y"], "did you mean 'd4rl'"),
        (["import", "d4rl", "x", "--id", NEW, "--family", "point-robot", "--tasks", "y"], "cannot read y"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(root: Path, arguments: list[str], told: str, capsys: Capture) -> None:
    assert told in refusal(capsys, "data", *arguments)


@pytest.mark.parametrize(
    ("arguments", "flag"),
    [
        (["export", ID, "OUT", "--quality", "nothere"], "--quality"),
        (["export", ID, "OUT", "--train-tasks", "5:9"], "--train-tasks"),
        (["verify", ID, "--json"], "--json"),
        (["verify", ID, "--family", "nope"], "--family"),
        (["slice", ID, "--id", NEW, "--layout", "d4rl"], "--layout"),
        (["slice", ID, "--id", NEW, "--tasks", "tasks.json"], "--tasks"),
        (["slice", ID, "--id", NEW, "--json"], "--json"),
        (
            ["import", "npy", "FOLDER", "--id", NEW, "--policy-steps", "1:2"],
            "--policy-steps",
        ),
        (["import", "npy", "FOLDER", "--id", NEW, "--train-tasks", "0"], "--train-tasks"),
        (["remove", ID, "--quality", "random"], "--quality"),
        (["list", "--family", "point-robot"], "--family"),
        (["show", ID, "--id", NEW], "--id"),
    ],
)
def test_flags_of_other_actions_are_refused_before_anything_is_done(
    arguments: list[str], flag: str, root: Path, tmp_path: Path, capsys: Capture
) -> None:
    words = [word.replace("OUT", str(tmp_path / "out")).replace("FOLDER", str(tmp_path)) for word in arguments]
    assert refusal(capsys, "data", *words) == f"{flag} has no effect on 'nacre data {words[0]}'; leave out {flag}."
    assert open_data_set(ID).num_episodes == 21 and not (tmp_path / "out").exists()
