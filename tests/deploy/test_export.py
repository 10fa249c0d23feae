"""Bundles: what `nacre export` writes, what is refused, and that NumPy alone acts on them."""

from __future__ import annotations

import ast
import errno
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import untrained

import nacre
import nacre.deploy
from nacre.cli.main import main
from nacre.deploy import bundles, numpy_bundle, numpy_session, session_program


@pytest.fixture(scope="module")
def bundle(smoke_run: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("exported") / "policy"
    assert main(["export", str(smoke_run("point-robot")), "-o", str(out), "--licence", "MIT"]) == 0
    return out


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle, tmp_path / "copy"))


def rewritten(folder: Path, **changes: Any) -> None:
    """agent.json with other values, sealed anew."""
    about = json.loads((folder / "agent.json").read_text()) | changes
    about |= {"seal": numpy_bundle.seal_of(about)}
    (folder / "agent.json").write_text(json.dumps(about))


def with_weights(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    """Other weights, with their hash in agent.json."""
    np.savez(folder / "weights.npz", **arrays)
    files = {"weights.npz": hashlib.sha256((folder / "weights.npz").read_bytes()).hexdigest()}
    rewritten(folder, files=files)


def test_a_bundle_has_four_files_and_says_where_it_comes_from(bundle: Path) -> None:
    names = {file.name for file in bundle.iterdir() if file.is_file()}
    assert names == {"agent.json", "weights.npz", "session.py", "guards.py"}
    about = json.loads((bundle / "agent.json").read_text())
    assert (about["method"], about["family"], about["licence"]) == ("pearl", "point-robot", "MIT")
    assert (about["obs_dim"], about["action_dim"], about["trial"]["protocol"]) == (2, 2, "online-prior")
    assert about["provenance"]["run"] == "point-robot" and about["provenance"]["grad_steps"] > 0
    assert about["provenance"]["config"]["algorithm"] == "pearl"
    for name, digest in about["files"].items():
        assert hashlib.sha256((bundle / name).read_bytes()).hexdigest() == digest
    assert (bundle / "session.py").read_text() == session_program.text()
    loads = [node for node in ast.walk(ast.parse(session_program.text())) if isinstance(node, ast.ImportFrom)]
    assert {node.module for node in loads if "nacre" in str(node.module)} == {
        "nacre.deploy.numpy_guards"
    }  # unless shipped
    assert not any("critic" in name or "value" in name for name in np.load(bundle / "weights.npz").files)


def test_its_session_acts_as_the_agent_of_the_run(bundle: Path, agent: nacre.TrainedAgent) -> None:
    ours, theirs = nacre.deploy.load(bundle, seed=3), agent.session(seed=3)
    for step in range(6):
        obs = np.array([0.1 * step, -0.2])
        assert np.allclose(ours.act(obs), theirs.act(obs), atol=1e-5)
        for session in (ours, theirs):
            session.observe(obs + 0.1, -1.0)
            if step % 2:
                session.end_episode()


def test_numpy_is_all_that_it_needs(bundle: Path) -> None:
    alone = "import sys; allowed = set(sys.stdlib_module_names) | {'numpy', 'nacre', 'session'}\n" + (
        "class Refuses:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] not in allowed: raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refuses())\n"
    )
    of_nacre = f"import nacre.deploy\nprint(nacre.deploy.load({str(bundle)!r}).self_test())"
    shipped = f"sys.path.insert(0, {str(bundle)!r})\nimport session\nprint(session.load({str(bundle)!r}).self_test())"
    for code in (of_nacre, shipped):
        done = subprocess.run([sys.executable, "-c", alone + code], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert float(done.stdout) <= numpy_session.TOLERANCE


def test_the_shipped_file_tests_and_times_itself(copied: Path) -> None:
    def ran() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(copied / "session.py")], capture_output=True, text=True, check=False)

    done = ran()
    assert done.returncode == 0 and done.stdout.startswith("self-test passed") and done.stdout.count("\n") == 1
    arrays = dict(np.load(copied / "weights.npz"))
    with_weights(copied, arrays | {"policy.0.bias": arrays["policy.0.bias"] + 1})
    done = ran()
    assert done.returncode == 2 and "the self-test failed: the action at step 1 of episode 1" in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_bundles_are_refused_in_a_sentence(copied: Path) -> None:
    arrays = dict(np.load(copied / "weights.npz"))
    whole = {file.name: file.read_bytes() for file in copied.iterdir() if file.is_file()}
    first = arrays["policy.0.weight"]

    def refused(words: str) -> None:
        with pytest.raises(nacre.NacreError, match=words) as refusal:
            nacre.deploy.load(copied)
        assert isinstance(refusal.value, ValueError)
        with pytest.raises(numpy_bundle.SessionError, match=words):
            numpy_session.load(copied)
        for name, content in whole.items():
            (copied / name).write_bytes(content)

    (copied / "weights.npz").unlink()
    refused("cannot read .*weights.npz")
    (copied / "agent.json").write_text("{")
    refused("agent.json is no JSON")
    (copied / "agent.json").write_text('{"format": "else"}')
    refused("not of a bundle")
    rewritten(copied, schema=3)
    refused("has schema 3, but this program reads schemas 1 to 2")
    (copied / "weights.npz").write_bytes(whole["weights.npz"][:-1] + b"x")
    refused("not what was exported")
    with_weights(copied, arrays | {"policy.0.weight": first[1:]})
    refused("policy.0.weight of shape")
    with_weights(copied, arrays | {"policy.0.weight": first * np.nan})
    refused("a number in policy.0.weight that is not finite")
    with_weights(copied, arrays | {"strange": first})
    refused("has the unknown array strange")
    shapes = json.loads(whole["agent.json"])["arrays"]
    with_weights(copied, arrays | {"hypotheses": np.zeros((5, 1, 2))})
    rewritten(copied, arrays=shapes | {"hypotheses": [5, 1, 2]})
    refused("of a version with another order of hypotheses; use the session.py")
    (copied / "agent.json").write_bytes(whole["agent.json"].replace(b'"sampled": 0', b'"sampled": 1'))
    refused("agent.json was changed after the export")
    with pytest.raises(nacre.NacreError, match="cannot read"):
        nacre.deploy.load(copied / "nowhere")


def test_what_stands_already_is_left_alone(bundle: Path, agent: nacre.TrainedAgent, tmp_path: Path) -> None:
    before = (bundle / "agent.json").read_bytes()
    with pytest.raises(nacre.NacreError, match=r"exists; choose another place .* --overwrite"):
        agent.export(bundle)
    assert (bundle / "agent.json").read_bytes() == before
    (tmp_path / "mine").mkdir()
    with pytest.raises(nacre.NacreError, match="not an exported agent, so --overwrite"):
        agent.export(tmp_path / "mine", overwrite=True)
    copy = Path(shutil.copytree(bundle, tmp_path / "copy"))
    (copy / "notes.txt").write_text("mine")
    with pytest.raises(nacre.NacreError, match=r"notes\.txt"):
        agent.export(copy, overwrite=True)
    (copy / "notes.txt").unlink()
    agent.export(copy, overwrite=True, episodes=5)
    assert nacre.deploy.load(copy).about["trial"]["episodes"] == 5
    assert {entry.name for entry in tmp_path.iterdir()} == {"mine", "copy"}


def test_a_bundle_that_cannot_be_replaced_is_put_back(
    bundle: Path, agent: nacre.TrainedAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, move = Path(shutil.copytree(bundle, tmp_path / "copy")), Path.rename
    before = (copy / "agent.json").read_bytes()

    def full(self: Path, target: Path) -> Path:
        if self.name.startswith(".copy-"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return move(self, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(nacre.NacreError, match="No space left on device"):
        agent.export(copy, overwrite=True)
    assert (copy / "agent.json").read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["copy"]


@pytest.mark.parametrize("method", ["maml-trpo", "promp", "macaw", "multitask-awr", "bc"])
def test_methods_that_adapt_by_gradient_steps_are_refused(method: str, tmp_path: Path) -> None:
    settings = {"num_train_tasks": 2} if method == "multitask-awr" else {}
    with pytest.raises(nacre.NacreError, match="adapts to a task by gradient steps"):
        untrained(method, **settings).export(tmp_path / "policy")
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------------------------------------------------------------------
# What is known of a trial, kept


def played(session: Any, steps: int) -> list[np.ndarray]:
    actions = []
    for step in range(steps):
        actions.append(session.act([0.1 * step, -0.3]))
        session.observe([0.1 * step + 0.1, -0.3], -0.5 * step)
        if step % 3 == 2:
            session.end_episode()
    return actions


def test_a_restored_session_continues_as_the_saved_one(bundle: Path, tmp_path: Path) -> None:
    saved, restored = nacre.deploy.load(bundle, seed=5), nacre.deploy.load(bundle, seed=6)
    played(saved, 4)
    saved.save(tmp_path / "belief.npz")
    restored.restore(tmp_path / "belief.npz")
    assert [entry.name for entry in tmp_path.iterdir()] == ["belief.npz"]
    assert repr(restored) == repr(saved) and np.array_equal(restored.belief, saved.belief)
    assert np.array_equal(played(restored, 7), played(saved, 7))


def test_what_is_no_saved_session_of_the_bundle_is_refused(copied: Path, tmp_path: Path) -> None:
    session, file = nacre.deploy.load(copied), tmp_path / "belief.npz"
    session.save(file)
    arrays = dict(np.load(file))
    before = session.state()
    for changes, words in (
        ({"memory.z": arrays["memory.z"][1:]}, "memory.z of shape"),
        ({"memory.z": arrays["memory.z"] * np.nan}, "not finite"),
        ({"other": arrays["memory.z"]}, "has the unknown array other"),
        ({"agent": arrays["agent"] ^ 1}, "of another agent"),
    ):
        np.savez(file, **(arrays | changes))
        with pytest.raises(nacre.NacreError, match=words):
            session.restore(file)
    file.write_bytes(b"PK no archive")
    with pytest.raises(nacre.NacreError, match="no archive"):
        session.restore(file)
    assert all(np.array_equal(values, before[name]) for name, values in session.state().items())


def test_warming_up_and_testing_change_nothing(bundle: Path) -> None:
    session, other = nacre.deploy.load(bundle, seed=5), nacre.deploy.load(bundle, seed=5)
    played(session, 4)
    played(other, 4)
    session.warm_up(50)
    assert session.self_test() <= numpy_session.TOLERANCE
    assert np.array_equal(played(session, 4), played(other, 4))


def test_refused_calls_leave_a_session_as_it_was(bundle: Path) -> None:
    session, other = nacre.deploy.load(bundle), nacre.deploy.load(bundle)
    with pytest.raises(nacre.NacreError, match="act first"):
        session.observe([0.0, 0.0], 0.0)
    for both in (session, other):
        both.act([0.2, 0.1])
    for obs, reward, action in (
        ([0.1, 0.0], np.nan, None), ([np.nan, 0.0], -1.0, None), ([0.1], -1.0, None), ([0.1, 0.0], [1.0], None),
        (["a", 0.0], 0.0, None), ([0.1, 0.0], 0.0, [np.inf, 0.0]), ([0.1, 0.0], 0.0, [0.0]), ([1e300, 0.0], 0.0, None),
    ):  # fmt: skip
        with pytest.raises(nacre.NacreError):
            session.observe(obs, reward, action=action)
    for both in (session, other):
        both.observe([0.1, 0.0], -1.0)
    with pytest.raises(nacre.NacreError, match="an observation has shape"):
        session.act([0.1])
    assert np.array_equal(session.belief, other.belief)
    assert np.array_equal(played(session, 4), played(other, 4))


def test_the_oracle_is_told_its_task_and_logs_are_absorbed(tmp_path: Path) -> None:
    untrained("oracle").export(tmp_path / "oracle")
    with pytest.raises(nacre.NacreError, match="give one, as in task='goal=NUMBER,NUMBER'"):
        nacre.deploy.load(tmp_path / "oracle")
    for task in ("goal=1", "speed=1,2", "goal=a,b", {"goal": [1, 2, 3]}):
        with pytest.raises(nacre.NacreError, match="is not a task of point-robot"):
            nacre.deploy.load(tmp_path / "oracle", task=task)
    text, numbers = (nacre.deploy.load(tmp_path / "oracle", task=task) for task in ("goal=1,2", {"goal": [1, 2]}))
    assert np.array_equal(text.act([0.0, 0.0]), numbers.act([0.0, 0.0]))

    session = untrained("focal").export(tmp_path / "focal")
    with pytest.raises(nacre.NacreError, match="call absorb before the first act"):
        session.act([0.0, 0.0])
    for name in ("oracle", "focal"):
        program = [sys.executable, str(tmp_path / name / "session.py")]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_a_run_in_bfloat16_acts_in_float32(tmp_path: Path) -> None:
    rounded = untrained("pearl", encoder_hidden_dim=8, precision="bfloat16")
    exact = untrained("pearl", encoder_hidden_dim=8)
    session = rounded.export(tmp_path / "policy")
    obs = np.array([0.3, -0.4])
    action = session.act(obs)
    assert np.allclose(action, exact.session().act(obs), atol=1e-6)
    assert not np.allclose(action, rounded.session().act(obs), atol=1e-6)


def test_a_bundle_names_what_the_robot_sees_and_does() -> None:
    words = bundles.robot_words(nacre.make_family("cheetah-vel"))
    assert len(words["observations"]) == 20 and words["observations"][2] == words["actions"][0] == "bthigh"
    assert words["control_period"] == pytest.approx(0.05)
    hopper = bundles.robot_words(nacre.make_family("hopper-params"))
    assert hopper["observations"] is None and hopper["actions"] == ["thigh_joint", "leg_joint", "foot_joint"]
    assert bundles.robot_words(nacre.make_family("point-robot"))["control_period"] is None
