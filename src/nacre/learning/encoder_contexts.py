"""PEARL's encoder before its first step, its contexts and the critics' batch, out of the replay."""

from __future__ import annotations

from typing import Any

from nacre.families.family import Family
from nacre.learning import replay as rings
from nacre.learning.networks import MLP, RecurrentEncoder
from nacre.learning.replay import Replay, Steps
from nacre.presets.pearl import PearlSettings
from nacre.types import Key, Transition


def fresh_encoder(key: Key, obs_dim: int, action_dim: int, config: PearlSettings) -> MLP | RecurrentEncoder:
    """A network from a transition, or from a context of them, to the numbers of a belief."""
    seen = obs_dim * (2 if config.use_next_obs_in_context else 1) + action_dim + 1
    encoded = config.latent_dim * (2 if config.use_information_bottleneck else 1)
    sizes = (seen, config.encoder_hidden_dim, config.num_hidden_layers, encoded)
    scaled = 0 if config.normalise_inputs == "none" else seen
    kind = RecurrentEncoder if config.encoder == "recurrent" else MLP
    return kind(*sizes, 3e-3, scaled=scaled, precision=config.precision, key=key)


def draw_context(ring: Replay, task: Any, key: Key, family: Family, config: PearlSettings) -> Transition:
    """A context of each of these rings: single transitions, of all or of a window, or a stretch in their order."""
    num, window = config.context_batch_size, config.context_window(family)
    if window > 0:
        return rings.sample_window(ring, task, num, window, family.obs_dim, key)
    sample = rings.sample_sequences if config.context_in_order else rings.sample
    return sample(ring, task, num, family.obs_dim, key)


def draw_batch(ring: Replay, task: Any, key: Key, family: Family, config: PearlSettings) -> Steps:
    """The critics' batch of each of these rings: single transitions with those that followed, or a stretch in order."""
    num, obs_dim = config.batch_size, family.obs_dim
    if config.batch_in_order:
        return rings.single(rings.sample_sequences(ring, task, num, obs_dim, key))
    return rings.sample_steps(ring, task, num, config.num_step_returns, obs_dim, key, *config.newest(family))
