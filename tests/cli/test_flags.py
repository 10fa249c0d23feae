"""Flags: anywhere in the line; a refused flag is answered with the nearest that is accepted there."""

from __future__ import annotations

import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import nacre
from command_line import Capture, refusal, run
from nacre.algorithms.registry import ALGORITHMS
from nacre.cli.main import COMMANDS
from nacre.cli.parsing import flags
from nacre.errors import OTHER_WORDS, other_word
from nacre.runs.experiment import RunOptions

TRAIN = ["train", "pearl", "cheetah-vel"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--preset", "smoke", "pearl", "point-robot", "--latent-dim", "4"],
        ["--latent-dim", "4", "pearl", "--preset=smoke", "point-robot"],
        ["--no-wandb", "pearl", "--use-next-obs-in-context", "point-robot", "--preset", "smoke", "--latent_dim=4"],
        ["pearl", "point-robot", "--latent-dim=4", "--preset", "smoke"],
    ],
    ids=" ".join,
)
def test_flags_stand_before_between_and_behind_the_names(
    arguments: list[str], untrained: list[tuple[Any, Path, dict[str, Any]]]
) -> None:
    assert run("train", *arguments) == 0
    ((experiment, _, _),) = untrained
    assert (experiment.algorithm_name, experiment.family.name, experiment.preset) == ("pearl", "point-robot", "smoke")
    assert experiment.settings.latent_dim == 4
    assert experiment.settings.use_next_obs_in_context is ("--use-next-obs-in-context" in arguments)


def test_a_plugin_is_named_before_or_behind_the_command(untrained: list[Any]) -> None:
    for arguments in (
        ["--plugin", "json", *TRAIN],
        [*TRAIN, "--plugin=json"],
        ["train", "--plugin", "json", *TRAIN[1:]],
    ):
        assert run(*arguments, "--preset", "smoke") == 0
    assert len(untrained) == 3


@pytest.mark.parametrize(
    ("arguments", "accepted"),
    [
        ([*TRAIN, "--lr", "1"], "--learning-rate"),
        ([*TRAIN, "--gamma=0.9"], "--discount"),
        ([*TRAIN, "--tau", "1"], "--soft-target-tau"),
        ([*TRAIN, "--epochs", "3"], "--iterations"),
        ([*TRAIN, "--steps", "3"], "--iterations"),
        ([*TRAIN, "--output-dir", "x"], "--out"),
        ([*TRAIN, "--num-seeds", "3"], "--seeds"),
        ([*TRAIN, "--batch", "3"], "--batch-size"),
        ([*TRAIN, "--buffer-size", "3"], "--replay-capacity"),
        ([*TRAIN, "--learning-rates", "3"], "--learning-rate"),
        ([*TRAIN, "--kl", "3"], "--kl-weight"),
        ([*TRAIN, "--no-seed"], "--seed"),
        (["train", "rl2", "cheetah-vel", "--epochs", "3"], "--num-epochs"),
        (["train", "maml-trpo", "cheetah-vel", "--inner-lr", "3"], "--inner-learning-rate"),
        (["evaluate", "x", "--trials", "3"], "--repeats"),
        (["adapt", "x", "--n-episodes", "3"], "--episodes"),
        (["resume", "x", "--timeout", "3"], "--time-limit"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_refused_flag_is_answered_with_the_one_that_is_meant(
    arguments: list[str], accepted: str, capsys: Capture
) -> None:
    assert refusal(capsys, *arguments).endswith(f"did you mean '{accepted}'?")


@pytest.mark.parametrize("word", ["--env", "--family", "--algo", "--env-id=3"])
def test_a_flag_for_what_is_given_by_its_place_is_answered_with_that(word: str, capsys: Capture) -> None:
    assert re.search(
        r"write the (family|algorithm) without a flag, see 'nacre train --help'", refusal(capsys, *TRAIN, word)
    )


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_no_command_proposes_a_flag_that_it_refuses(name: str, capsys: Capture) -> None:
    accepted = flags(importlib.import_module(COMMANDS[name]).Command)
    arguments = TRAIN if name == "train" else [name, "x"]
    if name == "train":
        parts = (ALGORITHMS["pearl"].settings, nacre.FAMILIES["cheetah-vel"], RunOptions)
        accepted |= {"--" + f.name.replace("_", "-") for part in parts for f in dataclasses.fields(part)}
    for word in [*OTHER_WORDS, "from-run", "helper", "famly", "x", "deterministic"]:
        flag = "--" + word.replace("_", "-")
        if flag in accepted:
            continue
        told = refusal(capsys, *arguments, flag, "1")
        proposed = re.search(r"did you mean '([^']*)'", told)
        assert proposed is None or proposed[1] in accepted - {"--help"}, told


def test_words_of_other_programs_stand_for_names_that_nacre_has() -> None:
    commands = (importlib.import_module(module).Command for module in COMMANDS.values())
    kinds = [*commands, RunOptions, *(algorithm.settings for algorithm in ALGORITHMS.values())]
    known = {field.name for kind in kinds for field in dataclasses.fields(kind)} | {"evaluation_interval"}
    for word, meant in OTHER_WORDS.items():
        assert set(meant) <= known, word


def test_python_answers_a_field_of_other_programs_in_the_same_way() -> None:
    with pytest.raises(nacre.NacreError, match="unknown field 'lr'; did you mean 'learning_rate'"):
        nacre.resolve("pearl", "cheetah-vel", lr=1e-3)
    assert other_word("--LR", ["--learning-rate", "--out"]) == "--learning-rate"
