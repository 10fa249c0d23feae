"""An agent in words and arrays: what a program without JAX needs to act as it does (deploy/numpy_session.py reads it).

A method's `export` names the kind of agent that it is, its networks and its numbers. Words are what JSON can say. An
array is named after the network and the layer that it is of, such as policy.0.weight [in, out] and policy.0.bias [out].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import numpy as np

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.learning.networks import (
    LOG_STD_MAX,
    LOG_STD_MIN,
    MAX_SCALED,
    MIN_LOG_STD,
    MIN_STD,
    MLP,
    GaussianPolicy,
    RecurrentEncoder,
    Scale,
    TanhGaussianPolicy,
)
from nacre.presets import protocols
from nacre.presets.pearl import PearlSettings

Words = dict[str, Any]
Arrays = dict[str, np.ndarray]


def dense(
    name: str, weights: Sequence[Any], biases: Sequence[Any], activation: str = "relu", scale: Scale | None = None
) -> tuple[Words, Arrays]:
    """Dense layers with an activation between them; the first inputs brought to scale, where there is one."""
    arrays: Arrays = {}
    for index, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        arrays |= {f"{name}.{index}.weight": _array(weight), f"{name}.{index}.bias": _array(bias)}
    sizes = [len(weights[0]), *(len(bias) for bias in biases)]
    words: Words = {"name": name, "sizes": sizes, "activation": activation, "scaled": 0}
    if scale is not None:
        arrays |= {
            f"{name}.mean": _array(scale.mean),
            f"{name}.std": np.maximum(_array(scale.std), np.float32(MIN_STD)),
        }
        words |= {"scaled": len(scale.mean), "limit": MAX_SCALED}
    return words, arrays


def mlp(name: str, network: MLP) -> tuple[Words, Arrays]:
    """A perceptron, in float32 whatever precision it was trained in."""
    if network.normalised:
        raise NacreError(f"the hidden layers of {name} are normalised, which an exported agent cannot do yet.")
    return dense(name, *_taking_z_as_it_is(network), scale=network.scale)


def _taking_z_as_it_is(network: MLP) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Weights and biases of a perceptron; the scale of its z, if it has one, becomes a part of its first layer."""
    weights, biases = [_array(x) for x in network.weights], [_array(x) for x in network.biases]
    if network.task_scale is not None:
        mean, std = (np.asarray(x, np.float64) for x in network.task_scale)
        of_task = weights[0][-len(mean) :] / std[:, None]
        weights[0] = np.concatenate([weights[0][: -len(mean)], of_task]).astype(np.float32)
        biases[0] = (biases[0] - mean @ of_task).astype(np.float32)
    return weights, biases


def critics(networks: Sequence[MLP]) -> tuple[list[Words], Arrays]:
    """Critics of (obs, action, z), whose hidden layers may be normalised."""
    words: list[Words] = []
    arrays: Arrays = {}
    for index, network in enumerate(networks):
        own, values = dense(f"critic-{index}", *_taking_z_as_it_is(network), scale=network.scale)
        words.append(own | {"normalised": network.normalised})
        arrays |= values
    return words, arrays


def cell(name: str, network: eqx.nn.LSTMCell | eqx.nn.GRUCell) -> tuple[Words, Arrays]:
    """A recurrent cell as two linear layers, of its input and of its hidden state, with the biases of each."""
    to_input, to_hidden = _array(network.weight_ih).T, _array(network.weight_hh).T
    bias, of_hidden = _array(network.bias), np.zeros(to_hidden.shape[1], np.float32)
    if isinstance(network, eqx.nn.GRUCell):
        of_hidden[-network.hidden_size :] = _array(network.bias_n)
    words, arrays = dense(f"{name}.input", [to_input], [bias])
    hidden_words, hidden_arrays = dense(f"{name}.hidden", [to_hidden], [of_hidden])
    kind = "gru" if isinstance(network, eqx.nn.GRUCell) else "lstm"
    return {"kind": kind, "of_input": words, "of_hidden": hidden_words}, arrays | hidden_arrays


def encoder(network: MLP | RecurrentEncoder) -> tuple[Words, Arrays]:
    """An encoder of transitions (obs, action, reward and perhaps next_obs), perhaps with a cell and a head behind."""
    if not isinstance(network, RecurrentEncoder):
        words, arrays = mlp("encoder", network)
        return {"layers": words}, arrays
    words, arrays = mlp("encoder", network.mlp)
    cell_words, cell_arrays = cell("cell", network.cell)
    head_words, head_arrays = dense("head", [network.weight], [network.bias])
    return {"layers": words, "cell": cell_words, "head": head_words}, arrays | cell_arrays | head_arrays


def squashed_policy(
    network: TanhGaussianPolicy, head: str = "tanh", log_std_range: tuple[float, float] = (LOG_STD_MIN, LOG_STD_MAX)
) -> tuple[Words, Arrays]:
    """A policy of (obs, z) whose network says mean and log standard deviation; the mean action is tanh of the mean.

    `head` says what samples are: tanh of a Gaussian's ('tanh'), or a Gaussian's around the mean action, clipped
    ('clipped').
    """
    words, arrays = mlp("policy", network.mlp)
    action_dim = words["sizes"][-1] // 2
    return {"layers": words, "head": head, "action_dim": action_dim, "log_std_range": list(log_std_range)}, arrays


def rewards_given(network: MLP, z: Any) -> tuple[Words, Arrays]:
    """A predictor of rewards, for each of some z [hypothesis, latent_dim]: a perceptron of (obs, action), and what each
    z adds to what its first layer gives, rewards.added [hypothesis, units]."""
    first, num = _array(network.weights[0]), len(network.weights[0]) - z.shape[1]
    words, arrays = dense("rewards", [first[:num], *network.weights[1:]], network.biases, scale=network.scale)
    return words, arrays | {"rewards.added": _array(z) @ first[num:]}


def posterior_sampling(
    params: Any, family: Family, config: PearlSettings, min_variance: float, beliefs: Any
) -> tuple[Words, Arrays]:
    """PEARL's agent. `params`: its encoder, policy, hypotheses and predictor of rewards. `beliefs`: those whose means
    the hypotheses are, as sums of factors [hypothesis, latent_dim], where it goes by rewards."""
    protocol = protocols.parse(config.protocol)
    policy, policy_arrays = squashed_policy(params.policy)
    encoder_words, encoder_arrays = encoder(params.encoder)
    num_exploring = config.num_exploration_episodes if protocol.explores else 0
    words = {
        "kind": "belief", "obs_dim": family.obs_dim, "latent_dim": config.latent_dim, "policy": policy,
        "encoder": encoder_words, "bottleneck": config.use_information_bottleneck, "min_variance": min_variance,
        "prior_factor": config.use_prior_factor, "re_infers": protocol.re_infers, "one_episode": protocol.one_episode,
        "exploration_episodes": num_exploring,
        "uniform_steps": protocol.num_uniform_steps(config.num_exploration_episodes, family.horizon),
        "forgetting": config.forgetting, "resample": config.resample,
    }  # fmt: skip
    arrays = policy_arrays | encoder_arrays
    if config.by_hypotheses:
        arrays["hypotheses"] = _array(params.hypotheses.z)  # [first, turn, latent_dim]
        words["hypothesis_steps"] = int(params.hypotheses.num_steps)
    if config.by_rewards:
        words["rewards"], predictor = rewards_given(params.rewards, params.hypotheses.beliefs.mean)
        arrays |= predictor | {f"beliefs.{name}": _array(values) for name, values in beliefs._asdict().items()}
    return words, arrays


def gaussian_policy(network: GaussianPolicy) -> tuple[Words, Arrays]:
    """A policy of (obs, z) whose log standard deviation is the same in all states."""
    words, arrays = dense("policy", network.weights, network.biases, network.activation)
    return with_log_std(words, arrays, network.log_std)


def with_log_std(words: Words, arrays: Arrays, log_std: Any) -> tuple[Words, Arrays]:
    """Layers that say the mean of a Gaussian, as a policy with this log standard deviation."""
    floored = np.maximum(_array(log_std), np.float32(MIN_LOG_STD))
    words = {
        "layers": words,
        "head": "gaussian",
        "action_dim": len(floored),
        "log_std_range": [MIN_LOG_STD, LOG_STD_MAX],
    }
    return words, arrays | {"policy.log_std": floored}


def row_layers(name: str, rows: Sequence[Any], in_dim: int) -> tuple[Words, Arrays]:
    """Dense layers whose weights W [in, out] and then b [out] lie in one row each (learning/weight_transform.py)."""
    matrices = []
    for row in map(_array, rows):
        matrices.append(row.reshape(in_dim + 1, -1))
        in_dim = matrices[-1].shape[1]
    return dense(name, [matrix[:-1] for matrix in matrices], [matrix[-1] for matrix in matrices])


def plain_policy(rows: Sequence[Any], family: Family, told: int = 0) -> tuple[Words, Arrays]:
    """An agent that learns nothing: tanh of layers whose weights lie in one row each, `told` zeros behind its
    observations."""
    first = _array(rows[0]).reshape(family.obs_dim + told + 1, -1)
    whole = np.delete(first, np.s_[family.obs_dim : family.obs_dim + told], axis=0)
    layers, arrays = row_layers("policy", [whole.ravel(), *rows[1:]], family.obs_dim)
    policy = {"layers": layers, "head": "tanh", "action_dim": family.action_dim, "log_std_range": [0.0, 0.0]}
    return {"kind": "task", "obs_dim": family.obs_dim, "policy": policy}, arrays


def _array(values: Any) -> np.ndarray:
    return np.array(values, np.float32)
