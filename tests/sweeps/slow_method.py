"""A plugin: a method that takes a twentieth of a second for an update that changes nothing."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from typing import Any

import nacre
from nacre.algorithms.registry import find_algorithm

RANDOM = find_algorithm("random")


@dataclasses.dataclass(frozen=True)
class SlowSettings(RANDOM.settings):  # type: ignore[name-defined,misc]
    """Those of random actions."""


def meta_train(*arguments: Any) -> Iterator[Any]:
    """As random actions, but slowly."""
    for step in RANDOM.meta_train(*arguments):
        time.sleep(0.05)
        yield step


nacre.register_algorithm("slow", dataclasses.replace(RANDOM, settings=SlowSettings, meta_train=meta_train))
