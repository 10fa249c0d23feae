"""The tables of a run: no row is lost in silence, none stands under a wrong header, and they are read by name."""

from __future__ import annotations

import errno
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nacre
from nacre.runs import tables
from nacre.runs.tables import EVAL_COLUMNS


@pytest.fixture
def run(smoke_run: Callable[[str], Path], tmp_path: Path) -> nacre.RunDirectory:
    """A finished run of two iterations with checkpoints at updates 10 and 20."""
    return nacre.RunDirectory(Path(shutil.copytree(smoke_run("point-robot"), tmp_path / "run")))


DAMAGE: dict[str, Callable[[Path], object]] = {
    "deleted": Path.unlink,
    "emptied": lambda file: file.write_text(""),
    "cut in half": lambda file: file.write_bytes(file.read_bytes()[: file.stat().st_size // 2]),
    "a row changed": lambda file: file.write_text(file.read_text().replace(",10,", ",11,", 1)),
    "another header": lambda file: file.write_text(file.read_text().replace("grad_steps", "steps", 1)),
}


@pytest.mark.parametrize("file", ["metrics.csv", "eval.csv"])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_table_that_lost_rows_is_restored_from_the_checkpoint_with_a_notice(
    file: str, damage: str, run: nacre.RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (run.path / file).read_bytes()
    DAMAGE[damage](run.path / file)
    nacre.resume(run.path)
    assert (run.path / file).read_bytes() == whole
    assert f"{run.path / file} lacked rows" in capsys.readouterr().err


def test_a_table_that_only_grew_since_the_checkpoint_is_cut_back_without_a_word(
    run: nacre.RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = (run.path / "metrics.csv").read_text()
    (run.path / "metrics.csv").write_text(whole + whole.splitlines()[-1] + "\n9,9")
    nacre.resume(run.path)
    assert (run.path / "metrics.csv").read_text() == whole
    assert "lacked" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "told"), [("metrics.csv", "ends at update 10, but .* 20"), ("eval.csv", "has no rows, but .* 20")]
)
def test_rows_missing_from_a_run_of_nacre_0_1_are_refused_but_an_empty_file_continues_without(
    file: str, told: str, run: nacre.RunDirectory
) -> None:
    for checkpoint in run.checkpoints.iterdir():  # which had neither
        (checkpoint / "checksums.json").unlink()
        shutil.rmtree(checkpoint / "tables")
    text = (run.path / file).read_text()
    kept = text.splitlines(keepends=True)[: 2 if file == "metrics.csv" else 1]
    (run.path / file).write_text("".join(kept))
    with pytest.raises(nacre.NacreError, match=rf"{file} {told}.*restore that file, or put an empty file"):
        nacre.resume(run.path)
    assert (run.path / file).read_text() == "".join(kept)
    (run.path / file).write_text("")
    nacre.resume(run.path)


def test_rows_with_other_columns_are_added_under_the_columns_of_both(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    tables.append(file, ["grad_steps", "kl", "old"], [[10, 0.5, 1.5]])
    tables.append(file, ["grad_steps", "new", "kl"], [[20, 2.5, 0.25]])
    assert file.read_text() == "grad_steps,kl,old,new\n10,0.5,1.5,\n20,0.25,,2.5\n"
    columns = tables.read(file)
    np.testing.assert_array_equal(columns["new"], [np.nan, 2.5])
    np.testing.assert_array_equal(columns["old"], [1.5, np.nan])
    assert columns["grad_steps"].tolist() == [10, 20]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("grad_steps,x\n1,2\n3\n", "line 3 has 1 cells instead of 2"),
        ("grad_steps,x\n1,word\n", "column x: could not convert"),
        ("grad_steps,x\n1.5,2\n", "column grad_steps: invalid literal"),
        ("grad_steps,grad_steps\n1,2\n", "its first line is"),
        ("env_steps,x\n1,2\n", "its first line is"),
    ],
)
def test_a_table_that_cannot_be_understood_is_refused_with_its_name_and_the_place(
    text: str, told: str, tmp_path: Path
) -> None:
    (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(nacre.NacreError, match=rf"metrics\.csv is damaged \({told}"):
        tables.read(tmp_path / "metrics.csv")


@pytest.mark.parametrize("file", ["metrics.csv", "eval.csv"])
def test_a_directory_in_the_place_of_a_table_is_refused_in_one_sentence(file: str, run: nacre.RunDirectory) -> None:
    (run.path / file).unlink()
    (run.path / file).mkdir()
    for use in (lambda: nacre.resume(run.path), lambda: tables.read(run.path / file)):
        with pytest.raises(nacre.NacreError, match=rf"cannot read .*{file} \(Is a directory\)"):
            use()


def test_a_full_disk_ends_in_one_sentence_and_keeps_what_there_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "eval.csv"
    tables.append(file, EVAL_COLUMNS, tables.eval_rows(np.ones((1, 1, 1)), "test", 1, 10, 1.0))
    before = file.read_bytes()
    opened = Path.open

    def full(path: Path, mode: str = "r", **options: Any) -> Any:
        if "a" in mode:
            raise OSError(errno.ENOSPC, "No space left on device")
        return opened(path, mode, **options)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(nacre.NacreError, match=r"cannot write .*eval\.csv \(No space left on device\); make room"):
        tables.append(file, EVAL_COLUMNS, tables.eval_rows(np.ones((1, 1, 1)), "test", 2, 20, 2.0))
    assert file.read_bytes() == before


def test_what_a_run_logged_is_read_as_columns(run: nacre.RunDirectory) -> None:
    metrics, evaluations = run.metrics(), run.evaluations()
    assert metrics["grad_steps"].tolist() == [10, 20]
    assert metrics["grad_steps"].dtype == np.int64 and metrics["kl"].dtype == np.float64
    assert set(evaluations) == set(EVAL_COLUMNS)
    assert evaluations["split"].tolist() == ["test"] * len(evaluations["return"])
    assert run.successes() == {}
    scores = tables.scores_by_update(evaluations)
    last = evaluations["episode"] == 3
    assert list(scores) == [10, 20]
    assert scores[20] == pytest.approx(evaluations["return"][last & (evaluations["grad_steps"] == 20)].mean())
    assert repr(run) == (
        f"RunDirectory('{run.path}': Experiment(pearl on point-robot, preset smoke, seed 0), saved at update 20 of 20)"
    )


def test_a_frame_needs_pandas_and_says_so(run: nacre.RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(nacre.NacreError, match="pandas is not installed"):
        run.metrics(frame=True)


def test_a_frame_has_the_columns_of_the_dict(run: nacre.RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    frames: list[dict[str, np.ndarray]] = []
    pandas = types.SimpleNamespace(DataFrame=lambda columns: frames.append(columns) or "a frame")
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    assert run.metrics(frame=True) == run.evaluations(frame=True) == "a frame"
    for frame, columns in zip(frames, (run.metrics(), run.evaluations()), strict=True):
        assert list(frame) == list(columns)
        np.testing.assert_array_equal(frame["grad_steps"], columns["grad_steps"])
