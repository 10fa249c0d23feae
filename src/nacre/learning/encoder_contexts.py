"""The contexts that PEARL's encoder is trained on, out of the replay."""

from __future__ import annotations

from typing import Any

from nacre.families.family import Family
from nacre.learning import replay as rings
from nacre.learning.replay import Replay
from nacre.presets.pearl import PearlSettings
from nacre.types import Key, Transition


def draw_context(ring: Replay, task: Any, key: Key, family: Family, config: PearlSettings) -> Transition:
    """A context of each of these rings: single transitions, of all or of a window, or a stretch in their order."""
    num, window = config.context_batch_size, config.context_window(family)
    if window > 0:
        return rings.sample_window(ring, task, num, window, family.obs_dim, key)
    sample = rings.sample_sequences if config.context_in_order else rings.sample
    return sample(ring, task, num, family.obs_dim, key)
