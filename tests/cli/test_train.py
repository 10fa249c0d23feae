"""`nacre train`: flags become the configuration; what cannot be trained is refused in one sentence."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nacre
from command_line import Capture, output, refusal, run


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


def test_jobs_are_the_same_command_for_each_seed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[Any] = []
    monkeypatch.setattr("nacre.sweeps.training.train_jobs", lambda *args, **options: given.append((args, options)) or 0)
    flags = ["--seeds=4,6", "--latent_dim", "4", "--jobs", "2", "--time-limit=3", "--wandb", "--kl-weight=0.5"]
    assert run("train", *flags, "pearl", "point-robot", "--overwrite", "--out", str(tmp_path)) == 0
    (((jobs, number), options),) = given
    assert number == 2 and options == {"time_limit": 3.0, "overwrite": True}
    kept = ("train", "--latent_dim", "4", "--kl-weight=0.5", "pearl", "point-robot")
    for job, seed in zip(jobs, (4, 6), strict=True):
        assert job.path == tmp_path / f"seed-{seed}" and job.flags == ("--wandb",)
        assert job.begin == (*kept, "--seed", str(seed), "--out", str(job.path))
        assert job.experiment == nacre.resolve("pearl", "point-robot", latent_dim=4, kl_weight=0.5, seed=seed)


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
    (["pearl", "cheetah-vel", "--preset", "quick"], "unknown preset 'quick'"),
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


def test_of_a_preset_that_is_given_twice_the_last_counts(capsys: Capture, tmp_path: Path) -> None:
    flags = ["--preset", "paper", "--preset=smoke", "--iterations", "1", "--out", str(tmp_path / "run")]
    output(capsys, "train", "random", "point-robot", *flags)
    found = nacre.RunDirectory(tmp_path / "run").experiment
    assert found.settings == nacre.resolve("random", "point-robot", "smoke", iterations=1).settings
    assert found.preset == "smoke"


@pytest.mark.parametrize("flag", [["--num_train_tasks", "2"], ["--num-train-tasks=2"], ["--num_train_tasks=2"]])
def test_numbers_of_tasks_are_read_in_every_form(flag: list[str], capsys: Capture, tmp_path: Path) -> None:
    flags = ["--preset", "smoke", "--iterations", "1", "--out", str(tmp_path / "run"), *flag]
    output(capsys, "train", "random", "point-robot", *flags)
    assert nacre.RunDirectory(tmp_path / "run").experiment.settings.num_train_tasks == 2


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
    ("algorithm", "told"),
    [
        ("pearl", "the paper's settings take about 80.0 h on this machine; --preset fast takes about 20.0 min"),
        ("promp", "the paper's settings take at least 80.0 h on this machine; with a time limit"),
    ],
)
def test_the_papers_settings_tell_how_long_they_take_before_they_start(
    algorithm: str, told: str, untrained: list[Any], capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    hours = {"paper": 40.0, "fast": 1 / 6}  # of one seed
    monkeypatch.setattr("nacre.report.estimates.estimated_seconds", lambda experiment: 3600 * hours[experiment.preset])
    out = ["--out", str(tmp_path / "run"), "--seeds", "0:2"]
    assert run("train", algorithm, "cheetah-vel", *out) == 0
    assert capsys.readouterr().err.startswith(told)
    assert run("train", algorithm, "cheetah-vel", *out, "--preset", "smoke") == 0
    assert capsys.readouterr().err == ""
    (tmp_path / "run" / "seed-0").mkdir(parents=True)
    assert "exists" in refusal(capsys, "train", algorithm, "cheetah-vel", *out)  # nothing is estimated for it
