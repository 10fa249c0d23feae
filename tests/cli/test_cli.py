"""The command line, a contract: names, flags, files, what goes to stdout, and one sentence for what cannot be done."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nacre
from nacre.algorithms.registry import ALGORITHMS
from nacre.cli import main as cli
from nacre.cli.main import COMMANDS
from nacre.families.catalog import FAMILIES

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def point_run(smoke_run: Callable[[str], Path]) -> str:
    return str(smoke_run("point-robot"))


def run(*arguments: str) -> int:
    """The exit status of one command line; help ends a command as SystemExit."""
    try:
        return cli.main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


def output(capsys: Capture, *arguments: str) -> str:
    """What a command that succeeds prints on stdout."""
    capsys.readouterr()
    assert run(*arguments) == 0
    return capsys.readouterr().out


def json_output(capsys: Capture, *arguments: str) -> dict[str, Any]:
    """The one JSON object on stdout, and nothing else there."""
    printed = output(capsys, *arguments)
    value, end = json.JSONDecoder().raw_decode(printed)
    assert printed[end:] == "\n"
    assert isinstance(value, dict)
    return value


def refusal(capsys: Capture, *arguments: str) -> str:
    """The one line on stderr with which a command stops, exit status 2 and nothing on stdout."""
    capsys.readouterr()
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("nacre: ")
    assert err.count("\n") == 1 and err.endswith("\n"), err
    assert "Traceback" not in err
    assert not any(rule in err for rule in ("---", "│", "─", "╭")), f"drawing characters in: {err}"
    return err.removeprefix("nacre: ").removesuffix("\n")


# ----------------------------------------------------------------------------------------------------------------------
# What there is


def test_version_is_the_packages(capsys: Capture) -> None:
    assert output(capsys, "--version") == f"nacre {importlib.metadata.version('nacre')}\n"


def test_list_as_json_names_families_algorithms_and_presets(capsys: Capture) -> None:
    listed = json_output(capsys, "list", "--json")
    assert listed["families"][:4] == ["point-robot", "sparse-point-robot", "cheetah-dir", "cheetah-vel"]
    assert listed["families"] == list(FAMILIES)
    assert listed["algorithms"] == list(ALGORITHMS)
    assert {"pearl", "rl2", "maml-trpo", "promp", "maesn", "oracle", "random"} == set(ALGORITHMS)
    assert set(listed["presets"]) == {"paper", "fast", "demo", "smoke"}


def test_list_shows_every_family_and_algorithm(capsys: Capture) -> None:
    shown = output(capsys, "list")
    assert all(name in shown for name in [*FAMILIES, *ALGORITHMS])


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]], ids=str)
def test_without_a_command_every_command_is_listed(arguments: list[str], capsys: Capture) -> None:
    shown = output(capsys, *arguments)
    assert all(f"nacre {name} " in shown for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_its_arguments(name: str, capsys: Capture) -> None:
    shown = output(capsys, name, "--help")
    assert f"usage: nacre {name}" in shown
    assert shown.count("--") > 1


def test_the_help_of_train_with_a_family_lists_every_field_and_the_presets_values(capsys: Capture) -> None:
    shown = output(capsys, "train", "pearl", "sparse-point-robot", "--preset", "smoke", "--help")
    for flag in (
        "--latent-dim",
        "--kl-weight",
        "--goal-radius",
        "--seed",
        "--checkpoint-minutes",
        "--time-limit",
        "--out",
    ):
        assert flag in shown
    assert "(default: 1024)" not in shown  # the paper's context_batch_size
    assert "(default: 16)" in shown  # the smoke preset's


# ----------------------------------------------------------------------------------------------------------------------
# train and resume


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Path, dict[str, Any]]]:
    """Lets `nacre train` do everything but train: collects what it would have trained, and where."""
    asked: list[tuple[Any, Path, dict[str, Any]]] = []

    def train(experiments: list[Any], paths: list[Path], **options: Any) -> None:
        asked.extend((experiment, path, options) for experiment, path in zip(experiments, paths, strict=True))

    monkeypatch.setattr("nacre.runs.trainer.train", train)
    return asked


@pytest.mark.parametrize(
    "flags", [["--seed", "3", "--latent-dim", "4"], ["--seed=3", "--latent-dim=4"], ["--seed=3", "--latent_dim=4"]]
)
def test_a_flag_is_taken_in_every_spelling(flags: list[str], untrained: list[Any]) -> None:
    assert run("train", "pearl", "point-robot", *flags) == 0
    ((experiment, _, _),) = untrained
    assert (experiment.options.seed, experiment.settings.latent_dim) == (3, 4)


def test_a_flag_may_stand_before_the_preset_and_wins_over_it(untrained: list[Any]) -> None:
    assert run("train", "pearl", "point-robot", "--hidden-dim", "64", "--preset=smoke") == 0
    ((experiment, _, _),) = untrained
    assert experiment == nacre.resolve("pearl", "point-robot", "smoke", hidden_dim=64)


@pytest.mark.parametrize(("text", "seeds"), [("0:3", [0, 1, 2]), ("7", [7]), ("5,0,3", [5, 0, 3])])
def test_seeds_are_a_range_or_a_list_with_a_run_directory_each(
    text: str, seeds: list[int], untrained: list[Any], tmp_path: Path
) -> None:
    assert run("train", "pearl", "point-robot", "--seeds", text, "--latent-dim", "4") == 0
    assert [experiment.options.seed for experiment, _, _ in untrained] == seeds
    assert {experiment.settings.latent_dim for experiment, _, _ in untrained} == {4}
    assert [path for _, path, _ in untrained] == [Path(f"runs/point-robot/pearl/seed-{seed}") for seed in seeds]
    untrained.clear()
    assert run("train", "pearl", "point-robot", "--seeds", text, "--out", str(tmp_path / "runs")) == 0
    assert [path for _, path, _ in untrained] == [tmp_path / "runs" / f"seed-{seed}" for seed in seeds]


@pytest.mark.parametrize("text", ["", "3:3", "3:1", "0:", ":4", "a", "1,1", "0:100000", "-1", "1,,2", "0:4294967297"])
def test_seeds_that_name_none_too_many_or_one_twice_are_refused(
    text: str, untrained: list[Any], capsys: Capture
) -> None:
    assert "--seeds" in refusal(capsys, "train", "pearl", "point-robot", f"--seeds={text}")
    assert untrained == []


def test_seed_and_seeds_exclude_each_other(untrained: list[Any], capsys: Capture) -> None:
    assert "--seeds" in refusal(capsys, "train", "pearl", "point-robot", "--seed", "1", "--seeds", "0:2")
    assert untrained == []


@pytest.mark.parametrize(
    ("flag", "value"), [("--use-next-obs-in-context", True), ("--no-use-next-obs-in-context", False)]
)
def test_a_yes_or_no_field_is_a_pair_of_flags(flag: str, value: bool, untrained: list[Any]) -> None:
    assert run("train", "pearl", "point-robot", flag) == 0
    ((experiment, _, _),) = untrained
    assert experiment.settings.use_next_obs_in_context is value


def test_the_goal_radius_reaches_the_family(untrained: list[Any]) -> None:
    assert run("train", "pearl", "sparse-point-robot", "--goal-radius", "0.8") == 0
    ((experiment, _, _),) = untrained
    assert experiment.family.goal_radius == 0.8
    half_way = np.array([[0.5, 0.0]])
    reward, _ = experiment.family.rewards(half_way, {"goal": np.array([[1.0, 0.0]])})
    assert np.allclose(reward, 0.5)


def test_a_run_goes_where_the_contract_says_unless_told_otherwise(untrained: list[Any], tmp_path: Path) -> None:
    assert run("train", "pearl", "cheetah-vel", "--seed", "7") == 0
    assert run("train", "pearl", "cheetah-vel", "--out", str(tmp_path / "here"), "--time-limit", "1.5") == 0
    (_, default, options), (_, chosen, chosen_options) = untrained
    assert default == Path("runs/cheetah-vel/pearl/seed-7")
    assert options["time_limit"] is None
    assert (chosen, chosen_options["time_limit"]) == (tmp_path / "here", 1.5)


def test_a_fields_value_is_in_the_runs_configuration(smoke_run: Callable[[str], Path]) -> None:
    config = json.loads((smoke_run("point-robot") / "config.json").read_text())
    assert config["options"]["checkpoint_minutes"] == 0.0
    assert config["preset"] == "smoke"


def test_train_on_an_existing_run_says_so_and_changes_nothing(point_run: str, capsys: Capture) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(point_run).rglob("*")}
    sentence = refusal(capsys, "train", "pearl", "point-robot", "--preset", "smoke", "--out", point_run)
    assert f"{point_run} exists" in sentence
    assert f"nacre resume {point_run}" in sentence
    assert {path: path.stat().st_mtime_ns for path in Path(point_run).rglob("*")} == before


BAD_TRAIN: list[tuple[list[str], str]] = [
    # names
    (["perl", "point-robot"], "did you mean 'pearl'?"),
    (["pearl", "point-robt"], "did you mean 'point-robot'?"),
    (["pearl", "point-robot", "--preset", "smok"], "did you mean 'smoke'?"),
    (["pearl", "point-robot", "--preset=smok"], "did you mean 'smoke'?"),
    (["pearl", "cheetah-vel", "--preset", "demo"], "no preset 'demo' for cheetah-vel"),
    (["pearl", "point-robot", "--latent-dims", "3"], "did you mean '--latent-dim'?"),
    (["pearl", "point-robot", "--sed=3"], "did you mean '--seed'?"),
    (["pearl", "point-robot", "--goal-radius", "0.8"], "unknown option '--goal-radius'"),
    (["pearl", "point-robot", "-x"], "-x"),
    (["pearl", "point-robot", "--num-critics", "3"], "--num-critics"),
    # impossible values
    (["pearl", "point-robot", "--num-train-tasks", "0"], "num_train_tasks"),
    (["pearl", "point-robot", "--num-test-tasks", "0"], "num_test_tasks"),
    (["pearl", "point-robot", "--num-test-tasks", "-3"], "num_test_tasks"),
    (["pearl", "point-robot", "--num-initial-episodes", "0"], "num_initial_episodes"),
    (["pearl", "point-robot", "--num-prior-episodes", "0"], "num_prior_episodes"),
    (["pearl", "point-robot", "--iterations", "0"], "iterations"),
    (["pearl", "point-robot", "--learning-rate", "-1e-3"], "learning_rate"),
    (["pearl", "point-robot", "--learning-rate", "nan"], "learning_rate"),
    (["pearl", "point-robot", "--learning-rate", "inf"], "learning_rate"),
    (["pearl", "point-robot", "--discount", "1.5"], "discount"),
    (["pearl", "point-robot", "--seed", "-1"], "seed"),
    (["pearl", "point-robot", "--seed", "99999999999999999999"], "seed"),
    (["pearl", "point-robot", "--task-seed", "-1"], "seed"),
    (["pearl", "point-robot", "--checkpoint-minutes", "-1"], "checkpoint_minutes"),
    (["pearl", "point-robot", "--time-limit", "-1"], "time limit"),
    (["pearl", "point-robot", "--time-limit", "nan"], "time limit"),
    (["pearl", "sparse-point-robot", "--goal-radius", "0"], "goal_radius"),
    (["pearl", "cheetah-dir", "--num-train-tasks", "3"], "cheetah-dir has 2 tasks"),
    # what is no value of its kind, missing or too much
    (["pearl", "point-robot", "--seed", "1.5"], "--seed"),
    (["pearl", "point-robot", "--seed", "three"], "--seed"),
    (["pearl", "point-robot", "--learning-rate", "fast"], "--learning-rate"),
    (["pearl", "point-robot", "--seed"], "--seed"),
    (["pearl", "point-robot", "--preset"], "--preset"),
    (["pearl", "point-robot", "extra"], "extra"),
    (["pearl"], "nacre train pearl cheetah-vel"),
    ([], "nacre train pearl cheetah-vel"),
    (["--seed", "3", "pearl", "point-robot"], "first"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "part"), BAD_TRAIN, ids=[" ".join(arguments) for arguments, _ in BAD_TRAIN])
def test_what_cannot_be_trained_is_refused_in_one_sentence_and_nothing_is_made(
    arguments: list[str], part: str, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    out = [] if arguments[-1:] in (["--seed"], ["--preset"]) else ["--out", str(tmp_path / "runs" / "run")]
    preset = [] if "--preset" in " ".join(arguments) else ["--preset", "smoke"]
    assert part in refusal(
        capsys, "train", *arguments[:2], *(preset if len(arguments) > 1 else []), *out, *arguments[2:]
    )
    assert list(tmp_path.iterdir()) == []


def test_without_weights_and_biases_installed_a_run_that_wants_it_is_not_made(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    sentence = refusal(
        capsys, "train", "pearl", "point-robot", "--preset", "smoke", "--wandb", "--out", str(tmp_path / "run")
    )
    assert "nacre[wandb]" in sentence
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_refused(capsys: Capture, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    out = str(tmp_path / "file" / "run")
    assert "--out" in refusal(capsys, "train", "pearl", "point-robot", "--preset", "smoke", "--out", out)


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--iterations", "1"], "2 iterations"),
        (["--iterations", "0"], "iterations"),
        (["--iterations", "many"], "--iterations"),
        (["--time-limit", "nan"], "time limit"),
        (["--preset", "paper"], "unknown option '--preset'"),
        (["--latent-dim", "3"], "unknown option '--latent-dim'"),
    ],
)
def test_what_a_run_cannot_be_resumed_with_is_refused(
    flags: list[str], part: str, point_run: str, capsys: Capture
) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(point_run).rglob("*") if path.name != "lock"}
    assert part in refusal(capsys, "resume", point_run, *flags)
    after = {path: path.stat().st_mtime_ns for path in Path(point_run).rglob("*") if path.name != "lock"}
    assert after == before


# ----------------------------------------------------------------------------------------------------------------------
# evaluate


def test_evaluate_as_json_gives_returns_tasks_the_scored_episode_and_the_score(point_run: str, capsys: Capture) -> None:
    result = json_output(capsys, "evaluate", point_run, "--json")
    assert set(result) == {"returns", "tasks", "scored_episode", "score"}
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
    for text in (task_text({"exponents": tasks["exponents"][0].tolist()}), trials._task_text(tasks, 0)):
        assert text.startswith("exponents=") and text.endswith("... (65)") and len(text) < 45


def test_evaluate_for_a_person_is_a_table_with_a_row_for_every_task_and_the_score(
    point_run: str, capsys: Capture
) -> None:
    shown = output(capsys, "evaluate", point_run)
    assert all(f"episode {i}" in shown for i in (1, 2, 3))
    assert shown.count("goal=") == 3
    assert "score" in shown


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


# ----------------------------------------------------------------------------------------------------------------------
# adapt


@pytest.mark.parametrize(
    ("family", "task", "expected"),
    [
        ("cheetah-vel", "velocity=1.3", {"velocity": 1.3}),
        ("cheetah-vel", "velocity=0", {"velocity": 0.0}),
        ("cheetah-dir", "direction=-1", {"direction": -1.0}),
        ("point-robot", "goal=0.6,-0.8", {"goal": [0.6, -0.8]}),
        ("sparse-point-robot", "goal=0.6,0.8", {"goal": [0.6, 0.8]}),
    ],
)
def test_adapt_as_json_gives_return_and_belief_episode_by_episode(
    family: str, task: str, expected: dict[str, Any], smoke_run: Callable[[str], Path], capsys: Capture
) -> None:
    result = json_output(capsys, "adapt", str(smoke_run(family)), "--task", task, "--episodes", "2", "--json")
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


def test_adapt_for_a_person_is_a_table_with_a_row_for_every_episode(point_run: str, capsys: Capture) -> None:
    shown = output(capsys, "adapt", point_run, "--task", "goal=0.5,0.5", "--episodes", "4")
    assert "goal=0.5,0.5" in shown
    assert "belief mean" in shown


@pytest.mark.parametrize(
    ("family", "task"),
    [("point-robot", "goal=1.5,0"), ("cheetah-vel", "velocity=3.5"), ("cheetah-dir", "direction=0.5")],
)
def test_a_task_out_of_range_needs_a_word_more(
    family: str, task: str, smoke_run: Callable[[str], Path], capsys: Capture
) -> None:
    arguments = ["adapt", str(smoke_run(family)), "--task", task, "--json", "--episodes", "1"]
    assert "--allow-ood" in refusal(capsys, *arguments)
    result = json_output(capsys, *arguments, "--allow-ood")
    assert len(result["episodes"]) == 1


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


# ----------------------------------------------------------------------------------------------------------------------
# Other bad input


@pytest.mark.parametrize(("name", "nearest"), [("trian", "train"), ("eval", "evaluate"), ("adpt", "adapt")])
def test_an_unknown_command_is_answered_with_the_nearest(name: str, nearest: str, capsys: Capture) -> None:
    assert refusal(capsys, name, "x") == f"unknown command '{name}'; did you mean '{nearest}'?"


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["list", "--jsn"], "--json"),
        (["evaluate", "x", "--episode", "2"], "--episodes"),
        (["resume", "x", "--iteration=3"], "--iterations"),
    ],
)
def test_an_unknown_option_is_answered_with_the_nearest(arguments: list[str], nearest: str, capsys: Capture) -> None:
    assert f"did you mean '{nearest}'?" in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    "arguments",
    [["list", "extra"], ["resume"], ["evaluate"], ["adapt"], ["benchmark"], ["benchmark", "everything"], ["report"]],
    ids=" ".join,
)
def test_arguments_that_are_missing_or_too_many_are_refused(arguments: list[str], capsys: Capture) -> None:
    assert f"nacre {arguments[0]} --help" in refusal(capsys, *arguments)


@pytest.mark.parametrize("command", [["resume"], ["evaluate"], ["adapt", "--task", "goal=0,0"]], ids=lambda c: c[0])
def test_a_run_that_is_not_there_or_is_none_is_refused_and_not_made(
    command: list[str], capsys: Capture, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for place in ("nowhere", "empty"):
        assert str(tmp_path / place) in refusal(capsys, command[0], str(tmp_path / place), *command[1:])
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.parametrize("file", ["config.json", "tasks.json"])
@pytest.mark.parametrize(
    "command", [["resume"], ["evaluate", "--json"], ["adapt", "--task", "goal=0,0"]], ids=lambda c: c[0]
)
def test_a_damaged_run_is_refused_by_every_command_and_left_as_it_is(
    command: list[str], file: str, point_run: str, capsys: Capture, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(point_run, tmp_path / "damaged"))
    (damaged / file).write_text((damaged / file).read_text()[:100])
    before = {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()}
    assert str(damaged) in refusal(capsys, command[0], str(damaged), *command[1:])
    assert {path: path.read_bytes() for path in damaged.rglob("*") if path.is_file()} == before


# ----------------------------------------------------------------------------------------------------------------------
# Real processes


def process(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "nacre", *arguments], capture_output=True, text=True, timeout=300, check=False
    )


def test_a_process_that_is_asked_for_json_prints_nothing_else_on_stdout(point_run: str) -> None:
    done = process("evaluate", point_run, "--json")
    assert done.returncode == 0
    assert np.shape(json.loads(done.stdout)["returns"]) == (1, 3, 3)
    assert done.stdout.count("\n") == 1


def test_a_process_that_meets_a_damaged_checkpoint_exits_with_status_2_and_one_line(
    point_run: str, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(point_run, tmp_path / "damaged"))
    newest = damaged / "checkpoints" / "20"
    largest = max(
        (file for file in (newest / "state").rglob("*") if file.is_file()), key=lambda file: file.stat().st_size
    )
    largest.unlink()
    done = process("resume", str(damaged))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("nacre: the checkpoint") and done.stderr.count("\n") == 1, done.stderr


def test_the_console_script_is_the_same_program() -> None:
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="nacre")
    assert script.load() is cli.main
