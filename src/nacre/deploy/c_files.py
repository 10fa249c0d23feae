"""An exported agent in C99: policy.h (the parts of deploy/c/ that its kind needs, behind its sizes), weights.bin and
policy_test.c (docs/export.md). It is the agent of numpy_agents.py, with the same random numbers."""

from __future__ import annotations

import importlib.resources
import zlib
from typing import Any

import numpy as np

from nacre.deploy import numpy_session

NAMES = ("policy.h", "weights.bin", "policy_test.c")
TILE = 32
"""Outputs of a layer whose sums stay in registers; NACRE_TILE."""
HEAD = 16
"""Numbers before the weights: a name, how many numbers there are, and their checksum."""
HEADS = {"tanh": "NACRE_TANH", "clipped": "NACRE_CLIPPED", "gaussian": "NACRE_GAUSSIAN"}
MOST_STEPS = 100_000
"""That policy_test.c times."""


class _Weights:
    """weights.bin as it is filled, and what policy.h says of it."""

    def __init__(self, arrays: dict[str, np.ndarray]):
        self.arrays, self.width = arrays, 1
        self._parts: list[np.ndarray] = []
        self._size = HEAD

    def put(self, values: np.ndarray) -> int:
        """Adds numbers, at a multiple of 64 bytes; where they begin."""
        flat = np.ravel(np.float32(values))
        padded = np.zeros(-(-len(flat) // HEAD) * HEAD, np.float32)
        padded[: len(flat)] = flat
        self._parts.append(padded)
        self._size += len(padded)
        return self._size - len(padded)

    def layer(self, name: str) -> str:
        """A layer's initialiser: its weights in tiles of outputs, the biases before the rows of the inputs."""
        weight, bias = self.arrays[f"{name}.weight"], self.arrays[f"{name}.bias"]
        num_in, num_out = weight.shape
        tiles = -(-num_out // TILE)
        rows = np.zeros((num_in + 1, tiles * TILE), np.float32)
        rows[:, :num_out] = np.concatenate([bias[None], weight])
        self.width = max(self.width, num_in, tiles * TILE)
        return f"{{{num_in}, {num_out}, {self.put(rows.reshape(num_in + 1, tiles, TILE).swapaxes(0, 1))}}}"

    def network(self, name: str, about: dict[str, Any]) -> str:
        """The definition of a network of layers."""
        of, num = about["name"], len(about["sizes"]) - 1
        layers = ", ".join(self.layer(f"{of}.{index}") for index in range(num))
        scale = [self.put(self.arrays[f"{of}.{part}"]) for part in ("mean", "std")] if about["scaled"] else [0, 0]
        facts = f"{num}, {int(about['activation'] == 'relu')}, {about['scaled']}, {scale[0]}, {scale[1]}"
        return (
            f"static const nacre_layer nacre_{name}_layers[{num}] = {{{layers}}};\n"
            f"static const nacre_network nacre_{name} = {{nacre_{name}_layers, {facts}, "
            f"{_number(about.get('limit', 0))}}};\n"
        )

    def file(self) -> bytes:
        """All of weights.bin."""
        body = np.concatenate([np.zeros(0, np.float32), *self._parts]).astype("<f4").tobytes()
        head = b"nacre-c1" + np.array([self._size, zlib.adler32(body)], "<u4").tobytes()
        return head.ljust(4 * HEAD, b"\0") + body


def files(about: dict[str, Any], arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """File name -> content, for a bundle with this agent.json and these weights."""
    agent, weights = about["agent"], _Weights(arrays)
    networks, sizes = _networks(agent, weights), _sizes(about, weights)
    content = weights.file()
    sizes |= {
        "WIDTH": weights.width, "NUM_FLOATS": len(content) // 4, "HEAD_FLOATS": HEAD,
        "CHECKSUM": f"{zlib.adler32(content[4 * HEAD:])}u",
    }  # fmt: skip
    kind = agent["kind"]
    encodes, recurrent = "encoder" in agent, sizes["UNITS"] > 0
    parts = [
        _part("random.h"), _part("networks.h"), networks, *[_part("cell.h")] * recurrent, _part(f"{kind}_memory.h"),
        _part("session_struct.h"), *[_part("encoder.h")] * encodes, _part(f"{kind}.h"),
        *[_part("absorb.h")] * (kind != "embedding"), _part("session.h"),
    ]  # fmt: skip
    header = _preamble(about) + "".join(f"#define NACRE_{name} {value}\n" for name, value in sizes.items())
    return {
        "policy.h": (header + "\n" + "".join(parts)).encode(),
        "weights.bin": content,
        "policy_test.c": _test(about).encode(),
    }


def _part(name: str) -> str:
    return (importlib.resources.files("nacre.deploy") / "c" / name).read_text()


def _preamble(about: dict[str, Any]) -> str:
    """The beginning of policy.h."""
    lines = [f"/* {about['name']}, written by nacre {about['nacre']}: C99, no allocation, no dependency but libm."]
    for kind in ("observations", "actions"):
        lines += [f"   {kind}: {', '.join(about[kind])}"] if about.get(kind) else []
    lines += [f"   A step is {about['control_period']:.6g} s."] if about.get("control_period") else []
    return "\n".join(line.replace("*/", "* /") for line in lines) + "\n\n" + _part("head.h")


def _networks(agent: dict[str, Any], weights: _Weights) -> str:
    """Definitions of the networks, in the order in which a step reads them."""
    words, encoder = "", agent.get("encoder", {})
    for_cell = agent.get("cell") or encoder.get("cell")
    if for_cell is not None and "encoder" not in agent:
        words += _cell(for_cell, weights)
    words += weights.network("policy", agent["policy"]["layers"])
    if encoder:
        words += weights.network("encoder", encoder["layers"])
        if for_cell is not None:
            words += _cell(for_cell, weights) + weights.network("head", encoder["head"])
    if "rewards" in agent:
        words += weights.network("rewards", agent["rewards"])
    return words + "\n"


def _cell(about: dict[str, Any], weights: _Weights) -> str:
    return "".join(
        f"static const nacre_layer nacre_{name} = {weights.layer(about[name]['name'] + '.0')};\n"
        for name in ("of_input", "of_hidden")
    )


def _sizes(about: dict[str, Any], weights: _Weights) -> dict[str, Any]:
    """The macros of policy.h, less their prefix."""
    agent, arrays, trial = about["agent"], weights.arrays, about["trial"]
    policy, kind = agent["policy"], agent["kind"]
    of_cell = agent.get("cell") or agent.get("encoder", {}).get("cell")
    obs_dim, action_dim = about["obs_dim"], about["action_dim"]
    latent_dim = 0 if kind == "recurrent" else policy["layers"]["sizes"][0] - obs_dim
    low, high = policy["log_std_range"]
    units = len(arrays[f"{of_cell['of_hidden']['name']}.0.weight"]) if of_cell else 0
    gates = len(arrays[f"{of_cell['of_hidden']['name']}.0.bias"]) if of_cell else 0
    sizes: dict[str, Any] = {
        "OBS_DIM": obs_dim, "ACTION_DIM": action_dim, "LATENT_DIM": latent_dim,
        "TASK_DIM": latent_dim if kind == "task" else 0,
        "SAMPLED": -1 if trial["sampled"] is None else trial["sampled"], "ABSORBS": int(trial["needs_logs"]),
        "HEAD": HEADS[policy["head"]], "LOW_LOG_STD": _number(low), "HIGH_LOG_STD": _number(high),
        "AT_LOG_STD": weights.put(arrays["policy.log_std"]) if "policy.log_std" in arrays else 0,
        "UNITS": units, "GATES": -(-gates // TILE) * TILE, "IS_LSTM": int(bool(of_cell and of_cell["kind"] == "lstm")),
    }  # fmt: skip
    if "encoder" in agent:
        layers = agent["encoder"]["layers"]
        last = agent["encoder"].get("head", layers)
        sizes |= {
            "ENCODED": last["sizes"][-1], "SEES_NEXT_OBS": int(layers["sizes"][0] > obs_dim + action_dim + 1),
            "RE_INFERS": int(agent["re_infers"]), "ONE_EPISODE": int(agent["one_episode"]),
            "UNIFORM_STEPS": agent["uniform_steps"], "EXPLORATION_EPISODES": agent["exploration_episodes"],
        }  # fmt: skip
    if kind == "belief":
        hypotheses = arrays.get("hypotheses", np.zeros((0, 1, latent_dim)))
        sizes |= {
            "BOTTLENECK": int(agent["bottleneck"]), "PRIOR_FACTOR": int(agent["prior_factor"]),
            "MIN_VARIANCE": _number(agent["min_variance"]), "NUM_HYPOTHESES": len(hypotheses),
            "NUM_TURNS": hypotheses.shape[1], "AT_HYPOTHESES": weights.put(hypotheses),
            "HYPOTHESIS_STEPS": agent.get("hypothesis_steps", 0),
            "FORGETTING": _number(agent.get("forgetting", 1)), "BY_REWARDS": int("rewards" in agent),
            "RESAMPLE": ("episode", "mean", "step").index(agent.get("resample", "episode")),
        }  # fmt: skip
        if "rewards" in agent:
            names = ("rewards.added", "beliefs.precision", "beliefs.weighted_mean")
            places = [weights.put(arrays[name]) for name in names]
            sizes |= dict(zip(("AT_ADDED", "AT_PRECISION", "AT_WEIGHTED_MEAN"), places, strict=True))
    elif kind == "embedding":
        sizes["EXPLORES"] = int(agent["explores"])
    elif kind == "latent":
        low, high = agent["log_std_range"]
        sizes |= {
            "KEPT": agent["kept"], "DISCOUNT": _number(agent["discount"]),
            "ADAPTATION_STEPS": agent["adaptation_steps"], "LOW_LATENT_LOG_STD": _number(low),
            "HIGH_LATENT_LOG_STD": _number(high), "AT_MEAN_RATE": weights.put(arrays["rates.mean"]),
            "AT_LOG_STD_RATE": weights.put(arrays["rates.log_std"]),
        }  # fmt: skip
    return sizes


def _number(value: Any) -> str:
    """A float in C."""
    text = str(np.float32(value))
    return f"{text if '.' in text or 'e' in text else text + '.0'}f"


def _array(name: str, parts: list[Any]) -> str:
    """The definition of an array of all numbers in these parts, or of a 0."""
    flat = [np.ravel(np.array(part, np.float32)) for part in parts]
    numbers = [_number(value) for value in np.concatenate([np.zeros(0, np.float32), *flat])] or ["0.0f"]
    rows = [", ".join(numbers[first : first + 8]) for first in range(0, len(numbers), 8)]
    return f"static const float {name}[{len(numbers)}] = {{\n    " + ",\n    ".join(rows) + "};\n"


def _test(about: dict[str, Any]) -> str:
    """policy_test.c: replays the trial that was recorded at export, and times steps."""
    recorded = about["self_test"]
    episodes, absorbed = recorded["episodes"], recorded["absorbed"] or {}
    steps = [len(episode["reward"]) for episode in episodes]
    arrays = {name.upper(): [e[name] for e in episodes] for name in ("obs", "action", "reward")}
    arrays |= {f"LOG_{name.upper()}": [absorbed.get(name, [])] for name in ("obs", "action", "reward", "next_obs")}
    if about["agent"].get("task"):
        parts = dict(part.split("=") for part in recorded["task"].split())
        arrays["TASK"] = [[float(number) for name in sorted(parts) for number in parts[name].split(",")]]
    else:
        arrays["TASK"] = []
    numbers = {
        "SEED": recorded["seed"], "NUM_EPISODES": len(steps), "HORIZON": about["horizon"], "MOST_STEPS": MOST_STEPS,
        "NUM_LOGGED": len(absorbed.get("reward", [])),
    }  # fmt: skip
    tolerance = numpy_session.LARGER.get(about["agent"]["kind"], numpy_session.TOLERANCE)
    return (
        _part("test_head.c")
        + f"enum {{ {', '.join(f'{name} = {value}' for name, value in numbers.items())} }};\n"
        + f"static const float TOLERANCE = {_number(tolerance)};\n"
        + f"static const int STEPS[NUM_EPISODES] = {{{', '.join(map(str, steps))}}};\n"
        + "".join(_array(name, rows) for name, rows in arrays.items())
        + _part("test.c")
    )
