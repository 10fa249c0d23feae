"""The page about a run that learnt from a data set, after the data set was removed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import made_up_data as made_up
import nacre
from nacre.report import page


def test_a_page_shows_what_there_is_of_a_run_whose_data_set_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data"))
    made_up.write()
    run = nacre.train(
        "bc", "point-robot", preset="smoke", data=made_up.ID, out=tmp_path / "run", iterations=1, hidden_dim=4
    )
    shutil.rmtree(tmp_path / "data")
    capsys.readouterr()
    page.write([run.path], tmp_path / "page.html", num_videos=1)
    notices = [line for line in capsys.readouterr().err.splitlines() if "data set" in line]
    assert len(notices) == 1 and str(run.path) in notices[0] and made_up.ID in notices[0]
    text = (tmp_path / "page.html").read_text()
    assert "<h3>Tasks of bc" in text and "<h3>Settings and versions of bc" in text and "<h3>Trials" not in text
    rows = run.evaluations()
    last = rows["return"][(rows["split"] == "test") & (rows["grad_steps"] == rows["grad_steps"].max())]
    (average,) = set(re.findall(r"on average (-?[\d.]+) in the first episode", text))
    assert float(average) == pytest.approx(last.mean(), rel=1e-3)
