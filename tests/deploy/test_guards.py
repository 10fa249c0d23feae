"""Guards of sessions: what counts, what is done instead, and what is not learnt."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import numpy_session, untrained

import nacre
import nacre.deploy
from nacre.deploy import NumpySession, bundles, numpy_bundle
from nacre.deploy.numpy_bundle import Bundle
from nacre.deploy.numpy_guards import Guarding

NAN, GOOD, FAR = np.array([0.0, np.nan]), np.array([0.3, -0.2]), np.array([0.3, 9.0])
TRAINING = {
    "obs": {"low": [-1.0, -1.0], "high": [1.0, 1.0]}, "action_change": [0.01, 0.01],
    "belief": {"low": [-50.0] * 5, "high": [50.0] * 5}, "factor": [3.0] * 5,
}  # fmt: skip


@pytest.fixture(scope="module")
def agent() -> nacre.TrainedAgent:
    return untrained("pearl", encoder_hidden_dim=8)


@pytest.fixture(scope="module")
def make(agent: nacre.TrainedAgent) -> Callable[..., NumpySession]:
    about, arrays = bundles.described(agent, agent.trials)
    about |= {"files": {"weights.npz": "0" * 64}, "control_period": 0.1}

    def session(*, training: dict[str, Any] | None = TRAINING, **guards: Any) -> NumpySession:
        return NumpySession(Bundle(Path(), about | {"training": training}, arrays), 0, None, guards or None)

    return session


def knows(session: Any) -> float:
    """How sure the belief is; 1 of the prior."""
    return float((1 / session.belief[1]).sum() / 5)


def test_an_observation_that_is_not_finite_is_held_over_and_counts_one(make: Callable[..., NumpySession]) -> None:
    session, plain = make(finite="hold"), make()
    first = session.act(GOOD)
    np.testing.assert_array_equal(first, plain.act(GOOD))
    session.observe(NAN, -1.0)
    np.testing.assert_array_equal(session.act(NAN), first)
    session.observe(GOOD, -1.0)
    assert session.guard_counts == {"finite": 1} and session.num_steps == 0 and knows(session) == 1
    session.act(GOOD)
    session.observe(GOOD, np.inf)
    assert session.guard_counts == {"finite": 2} and knows(session) == 1
    session.act(GOOD)
    session.observe(GOOD, -1.0)
    assert session.num_steps == 1 and knows(session) != 1
    with pytest.raises(nacre.NacreError, match="not finite"):
        plain.act(NAN)


def test_a_guard_may_raise_and_may_go_back_to_the_prior(make: Callable[..., NumpySession]) -> None:
    raises, forgets = make(observation="raise"), make(observation="prior")
    for session in (raises, forgets):
        session.act(GOOD)
        session.observe(GOOD, -1.0)
        if session is forgets:
            session.act(GOOD)
    known = knows(raises)
    with pytest.raises(nacre.NacreError, match="observation at step 2 lies outside of what training saw"):
        raises.act(FAR)
    assert knows(raises) == known != 1 and raises.guard_counts == {"observation": 1}
    forgets.observe(FAR + 0.1, -1.0)
    assert forgets.guard_counts == {"observation": 1}
    assert np.isfinite(forgets.act(FAR + 0.1)).all()  # which was counted already
    assert knows(forgets) == 1 and forgets.guard_counts == {"observation": 1}
    inside_the_margin = make(observation="raise")
    inside_the_margin.act(np.array([1.19, 0.0]))


def test_actions_keep_their_bounds_and_their_rate(make: Callable[..., NumpySession]) -> None:
    wanted = make().act(GOOD)
    low, high = wanted + np.array([0.1, -1]), wanted + 1
    clipped = make(bounds="clip", low=low, high=high)
    np.testing.assert_allclose(clipped.act(GOOD), [wanted[0] + 0.1, wanted[1]], atol=1e-6)
    clipped.observe(GOOD, -1.0)
    ours, plain = make(rate="clip", change=0.01), make()
    before = ours.act(GOOD)
    for session in (ours, plain):
        if session is plain:
            plain.act(GOOD)
        session.observe(-GOOD, -1.0)
    assert np.abs(plain.act(-GOOD) - before).max() > 0.01
    assert np.isclose(np.abs(ours.act(-GOOD) - before).max(), 0.01)
    assert ours.guard_counts == {"rate": 1}
    held = make(rate="hold")  # by the largest change of training
    np.testing.assert_array_equal(held.act(GOOD), held_again(held))
    assert held.guard_counts == {"rate": 1}


def held_again(session: NumpySession) -> np.ndarray:
    session.observe(-GOOD, -1.0)
    return session.act(-GOOD)


def rl2_sessions(**guards: Any) -> list[Any]:
    agent = untrained("rl2", cell="gru")
    bundle = numpy_session(agent).bundle
    return [NumpySession(bundle, 0, None, guards or None), agent.session(guards=guards or None)]


@pytest.mark.parametrize("guards", [dict(bounds="raise", low=-1e-6, high=1e-6), dict(rate="raise", change=1e-6)])
def test_after_an_action_that_a_guard_refuses_the_session_is_as_before(guards: dict[str, Any]) -> None:
    """RL2's memory changes when it acts."""
    for session, plain in zip(rl2_sessions(**guards), rl2_sessions(), strict=True):
        if "rate" in guards:
            for one in (session, plain):
                one.act(GOOD)
                one.observe(GOOD, -1.0)
        for _ in range(2):
            with pytest.raises(nacre.NacreError, match=r"the action at step . (is out of bounds|changes too fast)"):
                session.act(-GOOD)
        with pytest.raises(nacre.NacreError, match="act first"):
            session.observe(GOOD, -1.0)
        np.testing.assert_array_equal(session.act_unguarded(-GOOD), plain.act(-GOOD))


def test_what_is_learnt_is_the_action_that_was_given(make: Callable[..., NumpySession]) -> None:
    guarded, plain = make(bounds="clip", low=-0.01, high=0.01), make()
    given = guarded.act(GOOD)
    plain.act(GOOD)
    guarded.observe(GOOD, -1.0)
    plain.observe(GOOD, -1.0, action=given)
    np.testing.assert_array_equal(guarded.belief[0], plain.belief[0])


def test_a_late_step_repeats_the_last_action(make: Callable[..., NumpySession]) -> None:
    session, now = make(lateness="hold"), [0.0]
    session._guarding = Guarding({"lateness": "hold"}, session.about, nacre.NacreError, clock=lambda: now[0])
    first = session.act(GOOD)
    session.observe(-GOOD, -1.0)
    now[0] += 0.1499  # one and a half periods are allowed
    second = session.act(-GOOD)
    assert (first != second).all() and session.guard_counts == {"lateness": 0}
    session.observe(GOOD, -1.0)
    now[0] += 0.1501
    np.testing.assert_array_equal(session.act(GOOD), second)
    session.observe(GOOD, -1.0)
    session.end_episode()
    now[0] += 60
    session.act(GOOD)
    assert session.guard_counts == {"lateness": 1} and session.num_steps == 3


def test_a_factor_is_capped_and_one_that_takes_the_belief_away_is_not_learnt(
    make: Callable[..., NumpySession],
) -> None:
    plain, capped = make(), make(factor="clip", precision=0.25)
    for session in (plain, capped):
        session.act(GOOD)
        session.observe(GOOD, -1.0)
    precision = 1 / plain.belief[1]
    np.testing.assert_allclose(1 / capped.belief[1], np.minimum(precision, 0.25), rtol=1e-6)
    assert (precision > 0.25).any() and capped.guard_counts == {"factor": 1}
    narrow = TRAINING | {"belief": {"low": [-1e-3] * 5, "high": [1e-3] * 5}}
    held, forgets = make(belief="hold", training=narrow), make(belief="prior", training=narrow)
    for session in (held, forgets):
        session.act(GOOD)
        session.observe(-GOOD, -1.0)
        assert session.guard_counts == {"belief": 1} and knows(session) == 1
    np.testing.assert_array_equal(held.act(-GOOD), held._guarding._last)


def test_what_cannot_be_guarded_is_refused_in_a_sentence(make: Callable[..., NumpySession]) -> None:
    refused: dict[str, dict[str, Any]] = {
        "there is no guard 'speed'": dict(speed="hold"),
        "guard 'finite' cannot 'clip'": dict(finite="clip"),
        "the ranges that training saw": dict(observation="hold", training=None),
        "low is above high": dict(bounds="hold", low=0.5, high=-0.5),
        "set the guards' period": dict(lateness="hold", period=-1.0),
        "guards' period.": dict(lateness="hold", period=np.inf),
        "margin must be at least 0": dict(observation="hold", margin=np.nan),
        "late above 0": dict(lateness="hold", late=np.inf, period=0.1),
        "change is nan, but must be one number of 0 or more or 2": dict(rate="clip", change=np.nan),
        "change is -0.1, but": dict(rate="clip", change=-0.1),
        r"change is \[0.1, 0.1, 0.1\], but must be one number of 0 or more or 2": dict(rate="clip", change=[0.1] * 3),
        "low is nan, but must be one number or 2 of them": dict(bounds="clip", low=np.nan),
        "high is much, but": dict(bounds="clip", high="much"),
        "precision is nan, but must be one number above 0 or 5": dict(factor="clip", precision=np.nan),
        "change is inf, but": dict(rate="clip", change=np.inf),
        "precision is inf, but": dict(factor="clip", precision=np.inf),
        "margin must be": dict(observation="hold", margin=1e300),
        "precision is 0.0, but": dict(factor="clip", precision=0.0),
    }
    for words, guards in refused.items():
        with pytest.raises(nacre.NacreError, match=words):
            make(**guards)


def test_a_run_tells_what_its_training_saw_and_both_sessions_go_by_it(
    smoke_run: Callable[[str], Path], tmp_path: Path
) -> None:
    agent = nacre.load(smoke_run("point-robot"))
    guards = {"observation": "hold", "belief": "prior", "rate": "clip"}
    agent.export(tmp_path / "policy")
    about = json.loads((tmp_path / "policy" / "agent.json").read_text())
    training = about["training"]
    episodes = about["trial"]["episodes"]
    assert training["transitions"] == training["trials"] * episodes * 20
    assert (np.array(training["obs"]["low"]) <= 0).all() and (np.array(training["obs"]["high"]) >= 0).all()
    assert (np.array(training["factor"]) > 0).all()
    ours, theirs = nacre.deploy.load(tmp_path / "policy", guards=guards), agent.session(guards=guards)
    far = np.array(training["obs"]["high"]) + 5
    for obs in (GOOD * 0, GOOD * 0 + 0.01, far, GOOD * 0):
        np.testing.assert_allclose(ours.act(obs), theirs.act(obs), atol=1e-5)
        ours.observe(obs, -1.0)
        theirs.observe(obs, -1.0)
    assert ours.guard_counts == theirs.guard_counts and ours.guard_counts["observation"] == 1
    with pytest.raises(nacre.NacreError, match="belief is made of factors"):
        agent.session(guards={"factor": "clip"})
    code = "from session import load; print(load('.', guards={'finite': 'hold'}).guard_counts)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "policy", capture_output=True, text=True)
    assert done.stdout == "{'finite': 0}\n", done.stderr


def test_bundles_of_schema_1_are_read_and_have_no_statistics(smoke_run: Callable[[str], Path], tmp_path: Path) -> None:
    nacre.load(smoke_run("point-robot")).export(tmp_path / "policy")
    file = tmp_path / "policy" / "agent.json"
    about = json.loads(file.read_text())
    del about["training"], about["files"]["guards.py"]
    about["schema"] = 1
    old_seal = numpy_bundle.seal_of(about | {"training": "is not part of it"})
    file.write_text(json.dumps(about | {"seal": old_seal}))
    assert nacre.deploy.load(tmp_path / "policy", guards={"finite": "hold"}).self_test() <= 1e-5
    with pytest.raises(nacre.NacreError, match="export its run anew"):
        nacre.deploy.load(tmp_path / "policy", guards={"observation": "hold"})
