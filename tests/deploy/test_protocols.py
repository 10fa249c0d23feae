"""Protocols by name: which there are, which a method can do, and what trials by them look like."""

from __future__ import annotations

import re
from typing import Any

import pytest

import nacre
from nacre.presets import protocols
from nacre.presets.macaw import MacawSettings
from nacre.presets.protocols import Protocol, parse
from nacre.presets.trials import TrialSettings

NAMES = ["online-prior", "online-np", "offline-own-context", "offline-other-context", "zero-shot"]


@pytest.mark.parametrize("name", [*NAMES, "gradient-steps:0", "gradient-steps:20", "gradient-steps:9999"])
def test_a_protocol_is_written_as_it_is_read(name: str) -> None:
    assert str(parse(name)) == name
    assert parse(name).name in protocols.FACTS


def test_what_protocols_ask_for() -> None:
    logs = {name: parse(name).logs for name in [*NAMES, "gradient-steps:0", "gradient-steps:1"]}
    assert {name for name, whose in logs.items() if whose == "own"} == {"offline-own-context", "gradient-steps:1"}
    assert {name for name, whose in logs.items() if whose == "other"} == {"offline-other-context"}
    assert [name for name in NAMES if parse(name).explores] == ["online-prior", "online-np"]
    assert parse("gradient-steps:5") == Protocol("gradient-steps", 5)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("online-nP", "did you mean 'online-np'"),
        ("zeroshot", "did you mean 'zero-shot'"),
        ("offline-own", "did you mean 'offline-own-context'"),
        ("gradient-steps", "gradient-steps:1"),
        ("gradient-steps:", "gradient-steps:1"),
        ("gradient-steps:-1", "0 to 9999"),
        ("gradient-steps:10000", "0 to 9999"),
        ("gradient-step:5", "gradient-steps:K"),
        ("online-prior:3", "takes no number"),
        ("", "choose one of"),
    ],
)
def test_a_wrong_name_is_refused_in_one_sentence_with_the_nearest(wrong: str, told: str) -> None:
    with pytest.raises(nacre.NacreError) as raised:
        parse(wrong)
    assert told in str(raised.value) and str(raised.value).count(". ") == 0


def settings_of(method: str, **fields: Any) -> Any:
    return nacre.resolve(method, "point-robot", "smoke", **fields).settings


@pytest.mark.parametrize(
    ("method", "protocol", "possible"),
    [
        ("promp", "zero-shot", "online-prior."),
        ("rl2", "online-np", "online-prior, zero-shot."),
        ("pearl", "gradient-steps:1", "zero-shot."),
    ],
)
def test_a_protocol_that_a_method_cannot_do_is_refused_with_those_it_can(
    method: str, protocol: str, possible: str
) -> None:
    trials = TrialSettings.of(settings_of(method))
    with pytest.raises(nacre.NacreError, match=re.escape(f"protocol {protocol}; choose one of") + f".*{possible}"):
        trials.changed(protocol=protocol)


def test_a_run_cannot_be_configured_for_a_protocol_that_its_method_cannot_do() -> None:
    with pytest.raises(nacre.NacreError, match="cannot be tested by protocol gradient-steps:1"):
        settings_of("pearl", protocol="gradient-steps:1")
    with pytest.raises(nacre.NacreError, match="did you mean 'online-np'"):
        settings_of("pearl", protocol="online-pn")
    with pytest.raises(nacre.NacreError, match="nacre evaluate RUN --protocol offline-own-context --data ID"):
        settings_of("pearl", protocol="offline-own-context")
    assert settings_of("pearl", protocol="online-np").protocol == "online-np"


def test_trials_by_another_protocol_have_the_episodes_that_it_needs() -> None:
    trials = TrialSettings.of(nacre.resolve("pearl", "cheetah-vel").settings)  # 3 episodes, of which 2 explore
    for protocol, episodes, exploring in (
        ("online-prior", 3, 2), ("online-np", 3, 2), ("offline-own-context", 1, 0), ("zero-shot", 1, 0),
    ):  # fmt: skip
        changed = trials.changed(protocol=protocol)
        assert (changed.episodes, changed.exploration_episodes, changed.protocol) == (episodes, exploring, protocol)
    assert trials.changed(protocol="offline-own-context", episodes=4, context_transitions=7).context_transitions == 7
    with_none = nacre.resolve("pearl", "cheetah-vel", num_exploration_episodes=0, num_evaluation_episodes=1).settings
    assert TrialSettings.of(with_none, "online-np").exploration_episodes == 1
    assert TrialSettings.of(with_none, "online-np").episodes == 2


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (dict(protocol="zero-shot", episodes=2), "leave out --episodes"),
        (dict(protocol="zero-shot", exploration_episodes=1), "leave out --exploration-episodes"),
        (dict(protocol="online-np", exploration_episodes=0), "needs at least 1"),
        (dict(context_transitions=9), "leave out --context-transitions"),
        (dict(protocol="offline-own-context", context_transitions=-1), "at least 0"),
    ],
)
def test_what_a_protocol_does_not_allow_is_refused(given: dict[str, Any], told: str) -> None:
    trials = TrialSettings.of(settings_of("pearl"))
    with pytest.raises(nacre.NacreError, match=told):
        trials.changed(**given)


def test_an_agent_is_made_for_its_protocol_from_the_runs_settings() -> None:
    settings = nacre.resolve("pearl", "cheetah-vel").settings
    trials = TrialSettings.of(settings)
    assert trials.changed(protocol="online-prior").applied_to(settings) is settings
    assert trials.changed(protocol="zero-shot").applied_to(settings).protocol == "zero-shot"
    assert trials.changed(protocol="offline-own-context").applied_to(settings).num_exploration_episodes == 2


def test_a_context_may_be_empty_where_it_is_only_read() -> None:
    changed = TrialSettings.of(settings_of("pearl")).changed(protocol="offline-own-context", context_transitions=0)
    assert changed.context_transitions == 0 and not changed.needs_logs
    with pytest.raises(nacre.NacreError, match="gradient-steps:0"):
        TrialSettings(1, None, 1, "gradient-steps:1").changed(context_transitions=0)
    with pytest.raises(nacre.NacreError, match="change --context-transitions"):
        TrialSettings.of(MacawSettings()).changed(protocol="offline-own-context", context_transitions=0)
