"""Tables of offline methods: what each needs at every scale; one made, stopped and resumed."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import nacre
from command_line import output, refusal
from fake_executor import CommandsHere
from nacre.cli import main as cli
from nacre.data.dataset import LoggedEpisode, Writer
from nacre.data.layout import folder_of
from nacre.deploy.trained_agent import TrainedAgent
from nacre.errors import DivergedError
from nacre.presets.macaw import MacawSettings
from nacre.presets.multitask import BcSettings
from nacre.presets.trials import TrialSettings
from nacre.report import offline_figures, reproduce, score_picture
from nacre.report.data_step import DataStep
from nacre.report.known import known_scores
from nacre.report.offline_figures import OFFLINE_FIGURES, Row
from nacre.report.score_table import as_csv, as_markdown
from nacre.report.scored_run import Scored, ScoredRun
from nacre.report.scores import rows_of
from nacre.report.steps import Line

FAMILY = "point-robot-half-circle"
SMOKE = ["reproduce", "offline", "--scale", "smoke", "--seeds", "0"]


@pytest.fixture(autouse=True)
def own_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data-sets"))


@pytest.mark.parametrize("figure", OFFLINE_FIGURES)
@pytest.mark.parametrize("scale", reproduce.SCALES)
def test_every_table_can_be_planned_at_every_scale(figure: str, scale: str, tmp_path: Path) -> None:
    steps = reproduce.planned(figure, scale, [0, 1], tmp_path)
    runs = [step for step in steps if isinstance(step, ScoredRun)]
    data = [step for step in steps if isinstance(step, DataStep)]
    assert len(runs) + len(data) == len(steps) and len({run.path for run in runs}) == len(runs)
    assert [run.seed for run in runs] == sorted(run.seed for run in runs)
    assert len({id for one in data for id in one.ids.values()}) == sum(len(one.ids) for one in data)
    for run in runs:
        assert steps.index(run.data) < steps.index(run) and run.data_id in run.data.ids.values()
        settings = run._sketch().settings
        for protocol in run.protocols:
            assert TrialSettings.of(settings, protocol).protocol == protocol
        for name, value in run.line.fields.items():
            assert getattr(settings, name) == value


def test_what_the_tables_are_about(tmp_path: Path) -> None:
    def names(figure: str, scale: str, family: str) -> dict[str, tuple[str, ...]]:
        runs = [step for step in reproduce.planned(figure, scale, [0], tmp_path) if isinstance(step, ScoredRun)]
        return {run.line.name: run.protocols for run in runs if run.line.family == family}

    for family in (FAMILY, "cheetah-vel"):
        rows = names("offline", "short", family)
        assert set(rows) == {"offline-pearl", "focal", "macaw", "bc", "oracle"}
        assert set(rows["focal"]) == {"offline-own-context", "online-prior", "online-np"}
    paper = names("macaw", "paper", "cheetah-vel")
    assert {f"macaw-{number}-tasks" for number in (20, 10, 5, 3)} <= set(paper)
    assert {f"macaw-{quality}-data" for quality in ("random", "medium", "expert")} <= set(paper)
    assert paper["macaw"] == tuple(f"gradient-steps:{steps}" for steps in (0, 1, 5))


def test_operations_of_an_update_are_counted() -> None:
    """20 observations, 6 actions, 100 x 3 units: MACAW has a value network more, 20 * 100 + 2 * 100^2 + 100 weights."""
    macaw, cloning = MacawSettings().update_flops(20, 6), BcSettings().update_flops(20, 6)
    assert macaw - cloning == 2 * 5 * (9 * 256 + 3 * 256) * 22_100
    assert BcSettings(meta=False).update_flops(20, 6) == cloning / 4
    assert MacawSettings(weight_transform="none-equal-size").update_flops(20, 6) == 101 * macaw


@pytest.fixture
def two_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table at its smallest: behaviour cloning after 0 and 1 steps, and random actions in the data set's tasks."""
    scale = offline_figures._CSRO_SCALES["smoke"]
    rows = [Row("bc", "bc", ("gradient-steps:0", "gradient-steps:1")), Row("random", "random", ("zero-shot",))]
    monkeypatch.setitem(offline_figures._CSRO_SCALES, "smoke", scale._replace(rows=lambda family: rows))


@pytest.mark.slow
def test_a_table_is_made_and_resumed(
    two_rows: None, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = CommandsHere(1, {})
    monkeypatch.setattr(reproduce, "LocalExecutor", lambda jobs: executor)
    arguments = [*SMOKE, "--out", str(tmp_path / "out")]
    assert cli.main([*arguments, "--time-limit", "1e-9"]) == 0
    assert "the same command resumes it" in capsys.readouterr().err
    assert "done" not in output(capsys, *arguments, "--dry-run")
    assert cli.main([*arguments, "--jobs", "1"]) == 0
    assert [started[:2] for started in executor.started] == [["train", "bc"], ["train", "random"]]

    place = tmp_path / "out" / "offline"
    with (place / "smoke.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["protocol"]) for row in rows] == [
        ("bc", "gradient-steps:0"), ("bc", "gradient-steps:1"), ("random", "zero-shot"),
    ]  # fmt: skip
    assert [float(row["context_transitions"]) for row in rows] == [0, 8, 0]
    run = place / "smoke" / FAMILY / "bc" / "seed-0"
    agent = nacre.load(run)
    returns, tasks = agent.evaluate(protocol="gradient-steps:1")
    assert len(tasks) == 1 and float(rows[1]["score"]) == returns[..., -1].mean()
    random, alone, score = (float(rows[1][name]) for name in ("random", "single-task_SAC", "score"))
    if alone > random:
        np.testing.assert_allclose(float(rows[1]["normalised_score"]), (score - random) / (alone - random))
    assert (place / "smoke.png").stat().st_size > 10_000 and "(published)" not in (place / "smoke.md").read_text()
    assert output(capsys, *arguments, "--dry-run").count("done") == 3

    records = {name: run.with_name(f"seed-0-gradient-steps-{name}.json") for name in (0, 1)}
    before = records[1].stat().st_mtime_ns
    told = records[0].read_text()
    records[0].unlink()
    assert cli.main(arguments) == 0  # that evaluation is all that is left to do
    assert records[0].read_text() == told and records[1].stat().st_mtime_ns == before
    records[0].write_text(json.dumps(json.loads(told) | {"grad_steps": 1}))  # of another checkpoint
    assert cli.main(arguments) == 0
    assert records[0].read_text() == told
    records[0].write_text(json.dumps(json.loads(told) | {"checkpoint": "of a run that is gone"}))
    assert cli.main(arguments) == 0
    assert records[0].read_text() == told
    records[0].write_text(told[:40])
    assert "seed-0-gradient-steps-0.json is damaged; remove it" in refusal(capsys, *arguments)


def test_data_of_other_tasks_and_a_missing_extra_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [*SMOKE, "--out", str(tmp_path / "out")]
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "minari.dataset.minari_storage", None)
        assert "pip install 'nacre[offline]'" in refusal(capsys, *arguments)
    step = next(iter(reproduce.planned("offline", "smoke", [0], tmp_path)))
    assert isinstance(step, DataStep)
    family, goals = step.plan.family, step.plan.test
    with Writer(step.ids["mixed"], family, goals, goals, "mixed", {}) as writer:
        nothing = np.zeros(1, np.float32)
        writer.add(
            [LoggedEpisode(0, "train", "mixed", 0, 0, -1, np.zeros((2, 2)), np.zeros((1, 2)), nothing, nothing, False)]
        )
    assert "has other tasks than the benchmark csro; remove it" in refusal(capsys, *arguments)
    shutil.rmtree(folder_of(step.ids["mixed"]))
    recipe = {"algorithm": "sac", "settings": dataclasses.asdict(step.plan.settings) | {"num_steps": 999}}
    recipe["episodes_of_a_checkpoint"] = step.num_episodes
    with Writer(step.ids["mixed"], family, step.plan.train, step.plan.test, "mixed", recipe) as writer:
        writer.add(
            [LoggedEpisode(0, "train", "mixed", 0, 0, -1, np.zeros((2, 2)), np.zeros((1, 2)), nothing, nothing, False)]
        )
    assert step.is_done() and step.is_done()
    told = capsys.readouterr().err
    assert told.count("was made with num_steps 999 instead of") == 1 and "episodes_of" not in told


def scored(seed: int, score: float, normalised: float | None, protocol: str = "offline-own-context") -> Scored:
    lines = {"random": -20.0, "single-task SAC": -4.0, "data mean": -5.0, "data best": -3.9}
    line = Line("offline-pearl", "offline-pearl", FAMILY)
    return Scored(line, seed, "nacre/a/mixed-v0", protocol, 3000, 256.0, score, normalised, lines)


def test_a_table_has_means_seeds_and_what_is_known() -> None:
    scores = [scored(0, -6.0, 0.875), scored(1, -8.0, 0.75), scored(0, -16.0, None, "online-np")]
    text = as_markdown("A title", {FAMILY: rows_of(scores, FAMILY)}, {FAMILY: known_scores("csro", FAMILY)})
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert rows[1] == ["offline-pearl", "offline-own-context", "256", "-7.0", "0: -6.0, 1: -8.0", "0.81", "3,000",
                       "-5.1 (CSRO, table 1)"]  # fmt: skip
    assert rows[2][:6] == ["offline-pearl", "online-np", "256", "-16.0", "0: -16.0", ""] and "-17.0" in rows[2][-1]
    by_name = {row[0]: row for row in rows}
    assert by_name["random actions"][3] == "-20.0" and by_name["data best of nacre/a/mixed-v0"][3] == "-3.9"
    assert by_name["CSRO (CSRO's comparison)"][-1] == "-6.4"
    first = next(csv.DictReader(as_csv(scores).splitlines()))
    assert (first["seed"], first["score"], first["normalised_score"], first["data_mean"]) == (
        "0",
        "-6.0",
        "0.875",
        "-5.0",
    )


def test_what_diverges_is_a_row_and_a_picture_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Diverging:
        def evaluation(self, *asked: Any, **how: Any) -> Any:
            raise DivergedError("its networks diverged")

    data = next(iter(reproduce.planned("offline", "smoke", [0], tmp_path)))
    assert isinstance(data, DataStep)
    identity = {"grad_steps": 5000, "data": "nacre/a/mixed-v0"}
    monkeypatch.setattr(ScoredRun, "_identity", lambda self: identity)
    run = ScoredRun(Line("macaw", "macaw", FAMILY), "fast", 0, tmp_path / "seed-0", ("gradient-steps:5",), 4, data)
    told = run._evaluated(cast(TrainedAgent, Diverging()), "gradient-steps:5")
    run.record_of("gradient-steps:5").write_text(json.dumps(told))
    scores = [scored(0, -6.0, 0.875), *run.scores()]
    rows = rows_of(scores, FAMILY)
    text = as_markdown("A title", {FAMILY: rows}, {FAMILY: []})
    assert "| macaw | gradient-steps:5 |  | diverged | 0: diverged |  | 5,000 |" in text
    assert [row["score"] for row in csv.DictReader(as_csv(scores).splitlines())] == ["-6.0", "nan"]
    score_picture.draw("A title", {FAMILY: rows}, {FAMILY: []}, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 0
