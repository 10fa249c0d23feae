"""Agents that were never trained, with networks that say something, as JAX and as NumPy sessions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

import nacre
from nacre.deploy import NumpySession, bundles
from nacre.deploy.numpy_bundle import Bundle
from nacre.runs.experiment import from_preset
from nacre.types import Belief

TASK = {"oracle": "goal=0.6,0.8"}
PEARL = dict(encoder_hidden_dim=8)
OFFLINE = dict(encoder_hidden_dim=8, backbone="iql")
AGENTS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "pearl": ("pearl", PEARL, {}),
    "pearl, all that is told": (
        "pearl", PEARL | dict(use_next_obs_in_context=True, normalise_inputs="all", use_prior_factor=True),
        dict(protocol="online-np"),
    ),
    "pearl, recurrent": ("pearl", PEARL | dict(encoder="recurrent", use_information_bottleneck=False), {}),
    "pearl, hypotheses": (  # five, which are tried again once all were
        "pearl", PEARL, dict(exploration="hypotheses", exploration_episodes=7, episodes=8)
    ),
    "pearl, several hypotheses an episode": (  # two in each, half of its steps each
        "pearl", PEARL, dict(exploration="hypotheses", exploration_episodes=2, episodes=4)
    ),
    "pearl, predicts rewards": (
        "pearl", PEARL | dict(predict_rewards=True, normalise_inputs="all"),
        dict(exploration="hypotheses", exploration_episodes=2, episodes=4),
    ),
    "pearl, predicts rewards and forgets": (
        "pearl", PEARL | dict(predict_rewards=True, use_prior_factor=True),
        dict(exploration="hypotheses", exploration_episodes=1, episodes=3, forgetting=0.8, resample="step"),
    ),
    "pearl, would explore by hypotheses": (  # where this protocol does not
        "pearl", PEARL | dict(exploration="hypotheses"), dict(protocol="online-np")
    ),
    "pearl, forgets": (
        "pearl", PEARL, dict(forgetting=0.8, resample="step", exploration_episodes=2, episodes=3)
    ),
    "pearl, by the mean": ("pearl", PEARL, dict(forgetting=0.5, resample="mean")),
    "pearl, one episode": ("pearl", PEARL, dict(protocol="zero-shot")),
    "rl2, lstm": ("rl2", dict(cell="lstm"), {}),
    "rl2, gru, samples": ("rl2", dict(cell="gru", sample_in_trials=True), {}),
    "maesn": ("maesn", dict(num_adaptation_steps=2), dict(episodes=4)),
    "oracle": ("oracle", dict(normalise_inputs="all"), {}),
    "oracle, task scaled": ("oracle", dict(normalise_inputs="all-and-task"), {}),
    "focal, of logs": ("focal", OFFLINE, {}),
    "focal, samples": ("focal", OFFLINE, dict(protocol="online-prior", exploration_episodes=2, episodes=3)),
    "offline pearl": ("offline-pearl", OFFLINE | dict(backbone="sac"), dict(protocol="online-np")),
    "offline pearl, one episode": ("offline-pearl", OFFLINE, dict(protocol="zero-shot")),
    "bc": ("bc", dict(meta=False), dict(protocol="gradient-steps:0")),
}  # fmt: skip
"""What is compared: method, settings, options of its trials."""


def untrained(method: str, **settings: Any) -> nacre.TrainedAgent:
    """An agent on point-robot whose parameters are random numbers, so that its actions are neither 0 nor 1."""
    small: dict[str, Any] = {} if method == "bc" else {"hidden_dim": 8}
    family = settings.pop("family", "point-robot")
    experiment = from_preset(method, family, "smoke", **(small | settings))
    algorithm, rng = experiment.algorithm, np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: algorithm.agent_params(algorithm.init(experiment.family, experiment.settings, 0)))

    def drawn(leaf: Any) -> np.ndarray:
        fan_in = leaf.shape[0] if leaf.ndim > 1 else 1
        return (rng.standard_normal(leaf.shape) / np.sqrt(fan_in)).astype(np.float32)

    params = jax.tree.map(drawn, shapes)
    tried = rng.standard_normal((5, getattr(experiment.settings, "latent_dim", 0))).astype(np.float32)
    known = Belief(tried, np.square(tried[::-1]) + 0.1)
    tasks = experiment.family.task_set(0, 2, 2)
    return nacre.TrainedAgent(experiment, tasks, params, hypotheses=lambda: known)


def numpy_session(
    agent: nacre.TrainedAgent, seed: int = 0, episodes: int | None = None, **options: Any
) -> NumpySession:
    """The session that its bundle would give, without writing one."""
    about, arrays = bundles.described(agent, agent.trials.changed(episodes, **options))
    about |= {"files": {"weights.npz": "0" * 64}}
    return NumpySession(Bundle(Path(), about, arrays), seed, TASK.get(agent.experiment.algorithm_name))
