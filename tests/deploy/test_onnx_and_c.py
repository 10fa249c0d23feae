"""ONNX graphs and C code of bundles: they act as the NumPy session does, over whole trials."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import AGENTS, TASK, numpy_session, untrained

import nacre
from nacre.cli.main import main
from nacre.deploy import NumpySession, c_files, onnx_files
from nacre.deploy.numpy_bundle import SCHEMA
from nacre.deploy.numpy_session import Transitions

COMPILER = shutil.which("cc")
STRICT = ("-std=c99", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror")

SLOW = (
    "pearl",
    "pearl, by the mean",
    "pearl, one episode",
    "focal, samples",
    "offline pearl",
    "offline pearl, one episode",
    "bc",
)
"""Of these, others of the list have the parts."""
NAMES = [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in AGENTS]


@functools.cache
def session_of(name: str) -> NumpySession:
    method, settings, options = AGENTS[name]
    return numpy_session(untrained(method, **settings), 7, **options)


def about(session: NumpySession) -> dict[str, Any]:
    task = TASK.get(session.about["method"], "goal=1,2")
    return session.about | {"self_test": {"seed": 0, "task": task, "absorbed": None, "episodes": []}}


def by_onnx(name: str) -> onnx_files.OnnxSession:
    """By onnxruntime, or where that is missing by the reference implementation."""
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    ours = session_of(name)
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        runner = onnx_files.by_reference
    else:
        runner = onnx_files.by_onnxruntime
    files = onnx_files.models(ours.about, ours.bundle.arrays)
    return onnx_files.OnnxSession(onnx_files.with_graphs(ours.bundle, files, runner), 7, TASK.get(AGENTS[name][0]))


LIBRARY = """
#include "policy.h"
static nacre_session s;
int begin(const float *weights, uint32_t seed, const float *task) { return nacre_begin(&s, weights, seed, task); }
int act(const float *obs, float *action) { return nacre_act(&s, obs, action); }
int observe(const float *obs, float reward, const float *done) { return nacre_observe(&s, obs, reward, done); }
int end_episode(void) { return nacre_end_episode(&s); }
int check(const float *weights, size_t number) { return nacre_check(weights, number); }
int absorb(const float *obs, const float *action, const float *reward, const float *next_obs, int number)
{
    return nacre_absorb(&s, obs, action, reward, next_obs, number);
}
void belief(float *mean, float *variance)
{
#if HAS_BELIEF
    nacre_belief(&s, mean, variance);
#else
    (void)mean, (void)variance;
#endif
}
"""


class CSession:
    """A trial by the C code of a bundle, with the calls of the NumPy session."""

    def __init__(self, name: str, folder: Path):
        if COMPILER is None:
            pytest.skip("there is no C compiler")
        ours = session_of(name)
        self.about, self.latent_dim = ours.about, len(ours.belief[0])
        for file, content in c_files.files(about(ours), ours.bundle.arrays).items():
            (folder / file).write_bytes(content)
        (folder / "library.c").write_text(LIBRARY)
        program = [COMPILER, *STRICT, f"-DHAS_BELIEF={int(self.latent_dim > 0)}", "-fPIC", "-shared", "library.c"]
        done = subprocess.run([*program, "-o", "library.so", "-lm"], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        self.calls = ctypes.CDLL(str(folder / "library.so"))
        self.weights = np.fromfile(folder / "weights.bin", np.float32)
        self.action, task = np.zeros(self.about["action_dim"], np.float32), ours._parsed(TASK.get(AGENTS[name][0]))
        self.call("begin", self.weights, 7, task if len(task) else None)

    def call(self, name: str, *given: Any) -> None:
        assert self.error_of(name, *given) == 0

    def error_of(self, name: str, *given: Any) -> int:
        arrays = [np.ascontiguousarray(x, np.float32) if np.ndim(x) else x for x in given]
        plain = [x.ctypes.data_as(ctypes.c_void_p) if np.ndim(x) else x for x in arrays]
        return int(getattr(self.calls, name)(*plain))

    def act(self, obs: np.ndarray) -> np.ndarray:
        self.call("act", obs, self.action)
        return self.action.copy()

    def observe(self, obs: np.ndarray, reward: float, action: np.ndarray | None = None) -> None:
        self.call("observe", obs, ctypes.c_float(reward), action)

    def end_episode(self) -> None:
        self.call("end_episode")

    def absorb(self, log: Transitions) -> None:
        self.call("absorb", *log, len(log.reward))

    @property
    def belief(self) -> np.ndarray:
        found = np.zeros((2, self.latent_dim), np.float32)
        self.calls.belief(*(part.ctypes.data_as(ctypes.c_void_p) for part in found))
        return found


def played(session: Any) -> np.ndarray:
    """Actions and beliefs of a trial on random observations, [step, ...]."""
    rng, about = np.random.default_rng(0), session.about
    sizes, found = (about["obs_dim"], about["action_dim"]), []
    if about["trial"]["needs_logs"]:
        log = [rng.uniform(-1, 1, shape) for shape in ((8, sizes[0]), (8, sizes[1]), 8, (8, sizes[0]))]
        session.absorb(Transitions(*log))
    num_steps = about["horizon"] if "hypotheses" in about["arrays"] else 12  # where the last turn ends an episode
    for episode in range(4):
        obs = rng.standard_normal(sizes[0])
        for _ in range(num_steps):
            found.append(session.act(obs))
            obs, reward = rng.standard_normal(sizes[0]), float(rng.standard_normal())
            session.observe(obs, reward, action=np.full(sizes[1], 0.5) if episode == 2 else None)
        session.end_episode()
        found += [np.resize(part, sizes[1]) for part in session.belief]
    return np.array(found)


@functools.cache
def by_numpy(name: str) -> np.ndarray:
    session = session_of(name)
    session.begin(7, TASK.get(AGENTS[name][0]))
    return played(session)


@pytest.mark.parametrize("name", NAMES)
def test_onnx_graphs_act_as_the_numpy_session_does(name: str) -> None:
    assert np.abs(played(by_onnx(name)) - by_numpy(name)).max() < 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_c_code_acts_as_the_numpy_session_does(name: str, tmp_path: Path) -> None:
    assert np.abs(played(CSession(name, tmp_path)) - by_numpy(name)).max() < 1e-5
    assert by_numpy(name).std() > 0.05


NO_LOGS, OUT_OF_RANGE = 4, 6


def test_c_code_takes_neither_an_empty_log_nor_actions_beyond_their_range(tmp_path: Path) -> None:
    session, obs = CSession("focal, of logs", tmp_path), np.zeros((4, 2))
    far = np.array([[0.5, -0.5], [0.5, 1.01], [0.0, 0.0], [1.0, -1.0]])
    for number in (0, -1, -4):
        assert session.error_of("absorb", obs, far, np.ones(4), obs, number) == NO_LOGS
    assert session.error_of("absorb", obs, far, np.ones(4), obs, 4) == OUT_OF_RANGE
    assert session.error_of("act", obs[0], session.action) == NO_LOGS, "it waits for logs still"
    assert not session.belief.any()
    session.call("absorb", obs, np.clip(far, -1, 1), np.ones(4), obs, 4)
    session.call("act", obs[0], session.action)
    assert session.error_of("observe", obs[0], ctypes.c_float(1.0), far[1]) == OUT_OF_RANGE
    session.call("observe", obs[0], ctypes.c_float(1.0), far[0])


def test_one_fused_step_is_an_observation_and_the_next_action() -> None:
    session, rng = by_onnx("pearl"), np.random.default_rng(0)
    graphs, memory = session.bundle.graphs, session._agent.state
    obs, next_obs, action, reward = (rng.standard_normal(size).astype(np.float32) for size in (2, 2, 2, 1))
    given = {f"memory.{name}": values.copy() for name, values in memory.items()}
    given |= {"obs": obs, "next_obs": next_obs, "action": action, "reward": reward}
    fused = graphs["step"](given)
    seen = graphs["observe"](given)
    assert set(seen) == {"next.precision", "next.weighted_mean", "next.counts"}
    assert all(np.array_equal(fused[name], values) for name, values in seen.items())
    acted = graphs["act"](given | {"obs": next_obs})
    assert np.array_equal(fused["sent_action"], acted["sent_action"]) and np.abs(acted["sent_action"]).max() <= 1


@pytest.fixture(scope="module")
def bundle(smoke_run: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    out = tmp_path_factory.mktemp("exported") / "policy"
    assert main(["export", str(smoke_run("point-robot")), "-o", str(out), "--onnx", "--c"]) == 0
    return out


def test_a_bundle_holds_checked_graphs_and_code(bundle: Path) -> None:
    import onnx

    about = json.loads((bundle / "agent.json").read_text())
    assert about["onnx"] == {"opset": 18, "ir_version": 8}
    graphs = {"begin.onnx", "act.onnx", "observe.onnx", "end_episode.onnx", "step.onnx", "belief.onnx"}
    names = {"weights.npz", "session.py", "guards.py", *graphs, "policy.h", "weights.bin", "policy_test.c"}
    assert set(about["files"]) == names == {entry.name for entry in bundle.iterdir()} - {"agent.json"}
    for name in graphs:
        model = onnx.load(bundle / name)
        onnx.checker.check_model(model, full_check=True)
        told = {entry.key: entry.value for entry in model.metadata_props}
        assert (told["name"], told["graph"]) == ("pearl on point-robot", name.removesuffix(".onnx"))
        assert told["schema"] == str(SCHEMA)
    assert [value.name for value in onnx.load(bundle / "act.onnx").graph.input] == ["memory.z", "obs"]
    nacre.deploy.load(bundle).self_test()
    if importlib.util.find_spec("onnxruntime") is not None:
        assert onnx_files.load(bundle).self_test() <= 1e-5
    (bundle / "act.onnx").write_bytes(b"x" + (whole := (bundle / "act.onnx").read_bytes()))
    with pytest.raises(nacre.NacreError, match=r"act\.onnx is not what was exported"):
        nacre.deploy.load(bundle)
    (bundle / "act.onnx").unlink()  # a robot that acts by another file need not have it
    assert nacre.deploy.load(bundle).self_test() <= 1e-5
    (bundle / "act.onnx").write_bytes(whole)


def test_the_shipped_c_program_tests_and_times_itself(bundle: Path, tmp_path: Path) -> None:
    if COMPILER is None:
        pytest.skip("there is no C compiler")
    program = str(tmp_path / "policy_test")
    subprocess.run([COMPILER, *STRICT, str(bundle / "policy_test.c"), "-o", program, "-lm"], check=True)
    weights = (bundle / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(weights)
    done = subprocess.run([program, "weights.bin", "50", "100"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a step takes" in done.stdout and "after 100 steps" in done.stdout
    (tmp_path / "weights.bin").write_bytes(weights[:-1] + b"x")
    done = subprocess.run([program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and "is not what was exported" in done.stderr


def test_without_onnx_a_sentence_says_what_to_install(
    agent: nacre.TrainedAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(nacre.NacreError, match=r"install it with pip install 'nacre\[onnx\]'"):
        agent.export(tmp_path / "policy", onnx=True)
    assert not list(tmp_path.iterdir())
