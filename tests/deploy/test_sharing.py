"""nacre push and nacre.load of what was pushed: to a folder, and to a made-up Hugging Face Hub."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import nacre
from command_line import Capture, output, refusal
from nacre.deploy.sharing import parse_hub
from nacre.runs import tables
from nacre.sweeps.job import saved_at, score_of


class FakeHub(ModuleType):
    """What nacre asks of huggingface_hub, with a folder for the Hub. Like it, it keeps files and no empty folders."""

    def __init__(self, folder: Path):
        super().__init__("huggingface_hub")
        self.folder, self.asked = folder, list[tuple[str, dict[str, Any]]]()
        self.private: dict[str, bool] = {}

    def HfApi(self) -> FakeHub:
        return self

    def create_repo(self, **asked: Any) -> None:
        self.asked.append(("create", asked))
        (self.folder / asked["repo_id"]).mkdir(parents=True, exist_ok=asked["exist_ok"])
        self.private.setdefault(asked["repo_id"], bool(asked["private"]))

    def repo_info(self, repo_id: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.private[repo_id])

    def upload_folder(self, **asked: Any) -> None:
        self.asked.append(("upload", asked))
        source = Path(asked["folder_path"])
        for file in (file for file in source.rglob("*") if file.is_file()):
            place = self.folder / asked["repo_id"] / file.relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, place)

    def snapshot_download(self, repo_id: str, revision: str | None, ignore_patterns: list[str]) -> str:
        there = self.folder / repo_id
        if not there.exists():
            raise FileNotFoundError(f"404 for {repo_id}")
        cache = self.folder / "cache" / repo_id / str(revision)
        for file in (file for file in there.rglob("*") if file.is_file()):
            name = file.relative_to(there)
            if not any(fnmatch(str(name), pattern) for pattern in ignore_patterns):
                (cache / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, cache / name)
        return str(cache)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    fake = FakeHub(tmp_path / "hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return fake


def first_action(agent: nacre.TrainedAgent) -> np.ndarray:
    session = agent.session(seed=3)
    return np.asarray(session.act(np.zeros(agent.experiment.family.obs_dim)))


def test_a_pushed_folder_acts_as_the_run_without_optimisers_and_replay(
    smoke_run: Callable[[str], Path], tmp_path: Path, capsys: Capture
):
    run, place = smoke_run("point-robot"), tmp_path / "shared" / "agent"
    (tmp_path / "drawn.png").write_bytes(b"picture")
    output(capsys, "push", str(run), "--to", str(place), "--picture", str(tmp_path / "drawn.png"), "--licence", "MIT")
    agent = nacre.load(place)
    assert np.array_equal(first_action(agent), first_action(nacre.load(run)))
    update = saved_at(run)
    assert agent.grad_steps == update == saved_at(place)
    assert not any((place / "checkpoints" / str(update) / "replay").iterdir())
    names = {path.name for path in place.iterdir()}
    assert {"README.md", "config.json", "tasks.json", "eval.csv", "metrics.csv", "trials.png"} <= names
    card = (place / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: nacre\n") and 'license: "mit"' in card and "![Trials" in card
    assert f"| mean | {score_of(run):.4g} |" in card and "| version of nacre | " in card
    assert "| `latent_dim` | `" in card and f"| update | {update} |" in card
    code = re.search(r"```python\n(.*?)```", card, re.S)
    assert code is not None
    exec(code[1])  # what the card says works
    assert np.isfinite(float(capsys.readouterr().out.split()[-1]))
    with pytest.raises(nacre.NacreError, match="so it can act, but not resume"):
        nacre.resume(place)
    assert "exists; choose another place" in refusal(capsys, "push", str(run), "--to", str(place))
    output(capsys, "push", str(run), "--to", str(place), "--overwrite", "--whole")
    assert any((place / "checkpoints" / str(update) / "replay").iterdir()) and not (place / "trials.png").exists()
    nacre.resume(place)  # is complete


def test_a_card_says_what_was_scored_and_where_the_networks_came_from(tmp_path: Path):
    """Test tasks that are the train tasks, a trial of one episode by its protocol, and a start from another run."""
    small: dict[str, Any] = dict(preset="smoke", iterations=1, hidden_dim=4)
    first = nacre.train("pearl", "point-robot", protocol="zero-shot", out=tmp_path / "first", **small)
    nacre.push(first.path, tmp_path / "pushed")
    card = (tmp_path / "pushed" / "README.md").read_text()
    assert "3 test tasks, none of which is a train task; 1 trials of each, of 1 episodes" in card
    assert "started from" not in card
    second = nacre.train("pearl", "point-robot", out=tmp_path / "second", from_run=first.path, **small)
    nacre.push(second.path, tmp_path / "again")
    assert second.started_from is not None
    assert second.started_from["networks_sha256"] in (tmp_path / "again" / "README.md").read_text()
    alone = nacre.train("oracle", "point-robot", single_task=1, out=tmp_path / "alone", **small)
    nacre.push(alone.path, tmp_path / "third")
    assert "1 test tasks, which are train tasks;" in (tmp_path / "third" / "README.md").read_text()


@pytest.mark.parametrize("whole", [False, True])
def test_the_tables_of_a_copy_end_where_its_networks_do(whole: bool, tmp_path: Path):
    """So that its score is that of the networks in it, as the card says."""
    run = nacre.train(
        "random", "point-robot", preset="smoke", checkpoint_minutes=0.0, seed=5, iterations=6, keep="best",
        out=tmp_path / "run", on_iteration=lambda iteration: {"mine": 1.0},
    )  # fmt: skip
    best, latest = tmp_path / "best", tmp_path / "latest"
    nacre.push(run.path, best, checkpoint="best", whole=whole)
    nacre.push(run.path, latest, whole=whole)
    scores = tables.scores_by_update(run.evaluations())
    update = max(scores, key=lambda step: scores[step])
    assert 0 < update == saved_at(best) < saved_at(run.path) == 6
    assert score_of(best) == scores[update] != score_of(run.path)
    assert f"| mean | {scores[update]:.4g} |" in (best / "README.md").read_text()
    for name in (name for name in tables.TABLES if (run.path / name).exists()):
        here, there = (tables.read(place / name)["grad_steps"] for place in (run.path, best))
        assert here.max() == 6 and there.tolist() == here[here <= update].tolist()
        assert (latest / name).read_bytes() == (run.path / name).read_bytes()
        assert (best / "checkpoints" / str(update) / "tables" / name).read_bytes() == (best / name).read_bytes()


def test_the_hub_is_pushed_to_and_loaded_from(smoke_run: Callable[[str], Path], hub: FakeHub):
    run = smoke_run("point-robot")
    assert nacre.push(run, "hf://somebody/agent", private=True) == "hf://somebody/agent"
    (_, created), (_, uploaded) = hub.asked
    assert created == {"repo_id": "somebody/agent", "private": True, "exist_ok": True}
    assert uploaded["delete_patterns"] == ["checkpoints/*", *tables.TABLES, "trials.*"]
    assert not Path(uploaded["folder_path"]).exists()
    agent = nacre.load("hf://somebody/agent@v1")
    assert np.array_equal(first_action(agent), first_action(nacre.load(run)))
    assert (hub.folder / "cache/somebody/agent/v1/README.md").exists()
    with pytest.raises(nacre.NacreError, match=r"hf://somebody/else cannot be fetched \(404 for somebody/else\)"):
        nacre.load("hf://somebody/else")


def test_a_private_push_to_a_public_repository_is_refused_before_the_upload(
    smoke_run: Callable[[str], Path], hub: FakeHub, capsys: Capture
):
    line = ("push", str(smoke_run("point-robot")), "--to", "hf://somebody/agent")
    output(capsys, *line)
    assert hub.asked[0][1]["private"] is None  # an organisation's default holds
    hub.asked.clear()
    assert "hf://somebody/agent is public, so nothing was pushed" in refusal(capsys, *line, "--private")
    assert [what for what, _ in hub.asked] == ["create"]


def test_what_cannot_be_pushed_is_refused(
    smoke_run: Callable[[str], Path], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    run = str(smoke_run("point-robot"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'nacre[hub]'" in refusal(capsys, "push", run, "--to", "hf://somebody/agent")
    assert "needs a place" in refusal(capsys, "push", run)
    assert "leave '@v1' out" in refusal(capsys, "push", run, "--to", "hf://somebody/agent@v1")
    assert "no place on the Hub" in refusal(capsys, "push", run, "--to", "hf://agent")
    assert "leave out --overwrite" in refusal(capsys, "push", run, "--to", "hf://somebody/agent", "--overwrite")
    assert "leave out --private" in refusal(capsys, "push", run, "--to", str(tmp_path / "x"), "--private")
    assert "there is no picture" in refusal(capsys, "push", run, "--to", "x", "--picture", "no.png")
    (tmp_path / "mine").mkdir()
    assert "leaves it alone" in refusal(capsys, "push", run, "--to", str(tmp_path / "mine"), "--overwrite")
    assert "no checkpoint '7'" in refusal(capsys, "push", run, "--to", str(tmp_path / "x"), "--checkpoint", "7")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_overwriting_push_removes_nothing_but_what_was_pushed(
    smoke_run: Callable[[str], Path], tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
):
    run, place = smoke_run("point-robot"), tmp_path / "place"
    update = saved_at(run)
    nacre.push(run, place, whole=True)
    checkpoints = place / "checkpoints"
    again = ("push", str(run), "--to", str(place), "--overwrite")

    def untouched(words: str, *line: str) -> None:
        before = sorted(path for path in place.rglob("*"))
        assert words in refusal(capsys, *line)
        assert sorted(path for path in place.rglob("*")) == before

    (place / "notes.txt").write_text("mine")
    untouched("has notes.txt in it, which --overwrite would delete", *again)
    (place / "notes.txt").unlink()
    (place / "trials.csv").write_text("mine")
    untouched("has trials.csv in it", *again)
    (place / "trials.csv").unlink()
    untouched("is the run itself", "push", str(place), "--to", str(place), "--overwrite")
    (tmp_path / "alias").symlink_to(place)
    untouched("is the run itself", "push", str(place), "--to", str(tmp_path / "alias"), "--overwrite")
    untouched("leaves it alone", "push", str(run), "--to", str(tmp_path / "alias"), "--overwrite")
    shutil.copytree(checkpoints / str(update), checkpoints / str(update + 1))
    untouched(f"was trained on since it was pushed, from update {update} to {update + 1}", *again)
    shutil.rmtree(checkpoints / str(update + 1))
    rename = Path.rename

    def fails(self: Path, target: Any) -> Path:
        if self.name.startswith(".nacre-push-"):
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails)
    untouched("No space left", *again)
    monkeypatch.undo()
    nacre.resume(place)  # a lock is no strange file
    output(capsys, *again)
    assert not any((place / "checkpoints" / str(update) / "replay").iterdir())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["alias", "place"]


def test_places_on_the_hub():
    assert parse_hub("hf://a/b-c.d") == ("a/b-c.d", None) and parse_hub("hf://a/b@refs/pr/1") == ("a/b", "refs/pr/1")
