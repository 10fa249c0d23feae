"""Files of pictures: written whole or not at all, the same bytes every time, other kinds refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_runs import MAGIC, MakeRun
from matplotlib.figure import Figure

from nacre.cli import main as cli
from nacre.errors import NacreError
from nacre.report import curves, picture, trials


@pytest.mark.parametrize("suffix", list(MAGIC))
def test_a_picture_is_written_as_its_name_ends_and_its_directory_is_made(
    make_run: MakeRun, tmp_path: Path, suffix: str
):
    out = tmp_path / "new" / "directory" / f"curves{suffix}"
    curves.draw([make_run()], out)
    assert out.read_bytes().startswith(MAGIC[suffix])
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("draw", [lambda run, out: curves.draw([run], out), trials.draw], ids=["curves", "trials"])
@pytest.mark.parametrize("name", ["picture.gif", "picture"])
def test_another_kind_of_picture_is_refused_before_the_run_is_read(tmp_path: Path, draw: Any, name: str):
    with pytest.raises(NacreError, match=r"\.png, \.svg, \.pdf"):
        draw(tmp_path / "no run", tmp_path / name)


def test_a_directory_is_no_picture(make_run: MakeRun, tmp_path: Path):
    (tmp_path / "there.png").mkdir()
    with pytest.raises(NacreError, match="is a directory"):
        curves.draw([make_run()], tmp_path / "there.png")


def test_a_picture_that_cannot_be_written_leaves_the_old_one(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "pictures" / "curves.png"
    out.parent.mkdir()
    out.write_text("old")

    def fail(figure: Figure, path: Path, **kwargs: Any) -> None:
        Path(path).write_text("half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(NacreError, match="No space left on device"):
        curves.draw([make_run()], out)
    assert list(out.parent.iterdir()) == [out]
    assert out.read_text() == "old"


def test_a_place_that_cannot_be_made_is_refused_with_a_sentence(make_run: MakeRun, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NacreError, match="cannot write"):
        curves.draw([make_run()], tmp_path / "file" / "curves.png")


@pytest.mark.parametrize("suffix", list(MAGIC))
def test_the_same_runs_give_the_same_bytes(make_run: MakeRun, tmp_path: Path, suffix: str):
    run = make_run()
    for name in ("a", "b"):
        curves.draw([run], tmp_path / (name + suffix))
    assert (tmp_path / ("a" + suffix)).read_bytes() == (tmp_path / ("b" + suffix)).read_bytes()


def test_drawing_leaves_the_callers_matplotlib_as_it_was(make_run: MakeRun, tmp_path: Path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    curves.draw([make_run()], tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (480, "480"), (21_000, "21k"), (450_000, "450k"), (1_250_000, "1.25M"), (2e6, "2M")]
)
def test_steps_are_written_short(number: float, text: str):
    assert picture.steps_text(number) == text


def test_the_command_draws_curves_and_refuses_other_files(
    make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert cli.main(["report", str(make_run()), "-o", str(tmp_path / "curves.svg")]) == 0
    assert (tmp_path / "curves.svg").exists()
    assert cli.main(["report", str(tmp_path / "run"), "-o", str(tmp_path / "curves.gif")]) == 2
    assert "does not end like a picture" in capsys.readouterr().err
