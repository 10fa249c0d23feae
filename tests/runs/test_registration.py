"""Options of a person's family: every type that can be written, the same from everywhere; names that are free."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

import nacre
from nacre.cli import main as cli
from nacre.families.catalog import FAMILIES, registered_by
from nacre.families.point import PointRobot
from nacre.runs.experiment import from_json, resolve, to_json


@pytest.fixture(autouse=True)
def only_nacres_own_afterwards() -> Iterator[None]:
    before = dict(FAMILIES)
    yield
    FAMILIES.clear()
    FAMILIES.update(before)


@dataclass(frozen=True)
class Spans(PointRobot):
    """It has an option of every type."""

    name: ClassVar[str] = "spans"
    span: tuple[float, float] = (0.0, 1.0)
    counts: tuple[int, ...] = (1, 2)
    kind: Literal["slow", "fast"] = "slow"


def test_a_tuple_is_the_same_from_python_the_command_line_and_config_json(tmp_path: Path, capsys: Any) -> None:
    nacre.register_family(Spans)
    assert registered_by("spans") == __name__
    for value in ((0.5, 2), [0.5, 2.0], np.array([0.5, 2.0])):
        experiment = resolve("random", "spans", "smoke", span=value, counts=[3], kind="fast")
        assert experiment.family == Spans(span=(0.5, 2.0), counts=(3,), kind="fast")
        assert isinstance(experiment.family.span[1], float)
    assert from_json(to_json(experiment, {})).family == experiment.family
    command = ["train", "random", "spans", "--preset", "smoke", "--span", "0.5", "2", "--counts", "3", "4", "5"]
    assert cli.main([*command, "--out", str(tmp_path / "run")]) == 0
    options = json.loads((tmp_path / "run" / "config.json").read_text())["family_options"]
    assert options == {"span": [0.5, 2.0], "counts": [3, 4, 5], "kind": "slow"}
    assert nacre.load(tmp_path / "run").family.counts == (3, 4, 5)
    assert cli.main(["check", "spans", "--span", "0.5", "2"]) == 0


@pytest.mark.parametrize(
    ("line", "span", "counts"),
    [
        (["--span", "0.5", "2", "random", "spans"], (0.5, 2.0), (1, 2)),
        (["random", "--span", "-0.5", "-.25", "spans"], (-0.5, -0.25), (1, 2)),
        (["--counts", "3", "-4", "5", "--kind", "fast", "random", "--span", "0", "1", "spans"], (0, 1), (3, -4, 5)),
    ],
)
def test_a_tuple_may_stand_before_the_names(
    line: list[str], span: tuple[float, float], counts: tuple[int, ...], tmp_path: Path
) -> None:
    nacre.register_family(Spans)
    assert cli.main(["train", *line, "--preset", "smoke", "--out", str(tmp_path / "run")]) == 0
    options = json.loads((tmp_path / "run" / "config.json").read_text())["family_options"]
    assert (tuple(options["span"]), tuple(options["counts"])) == (span, counts)
    assert cli.main(["check", *(word for word in line if word != "random")]) == 0


@pytest.mark.parametrize("value", [0.5, (0.5,), (0.5, 1, 2), (0.5, "a"), "ab", (0.5, np.nan), None], ids=repr)
def test_what_is_no_such_tuple_is_refused(value: Any) -> None:
    nacre.register_family(Spans)
    with pytest.raises(nacre.NacreError, match=r"span is .*, but must be .*; change --span\."):
        resolve("random", "spans", "smoke", span=value)
    assert cli.main(["train", "random", "spans", "--preset", "smoke", "--span", "0.5"]) == 2


def family_with(field: str, kind: Any) -> Any:
    made = make_dataclass("Made", [(field, kind, None)], bases=(PointRobot,), frozen=True)
    made.name = "made"
    return made


@pytest.mark.parametrize("field", ["discount", "seed", "latent_dim", "num_train_tasks", "task_seed", "preset", "out"])
def test_an_option_named_like_a_setting_is_refused(field: str) -> None:
    with pytest.raises(nacre.NacreError, match=f"made has an option '{field}', which is also a setting"):
        nacre.register_family(family_with(field, float))
    assert "made" not in FAMILIES


@pytest.mark.parametrize("kind", [dict[str, int], np.ndarray, Path, Any, float | None, tuple[dict[str, int]]], ids=str)
def test_an_option_that_cannot_be_written_is_refused(kind: Any) -> None:
    with pytest.raises(nacre.NacreError, match=r"the option 'wind' of made is of type .* cannot be written"):
        nacre.register_family(family_with("wind", kind))


def test_a_family_that_lacks_a_function_is_refused_by_its_name() -> None:
    class Unfinished(nacre.GymnasiumFamily):
        name: ClassVar[str] = "unfinished"

    with pytest.raises(nacre.NacreError, match="Unfinished does not define in_range, make_env, sample_tasks"):
        nacre.register_family(Unfinished)
