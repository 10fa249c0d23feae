"""Every family by name."""

from __future__ import annotations

from typing import Any

from nacre.errors import unknown
from nacre.families.family import Family
from nacre.families.half_cheetah import CheetahDir, CheetahVel
from nacre.families.point import PointRobot, SparsePointRobot

FAMILIES: dict[str, type[Family]] = {
    "point-robot": PointRobot,
    "sparse-point-robot": SparsePointRobot,
    "cheetah-dir": CheetahDir,
    "cheetah-vel": CheetahVel,
}


def make_family(name: str, **options: Any) -> Family:
    """The family of that name, with its options (`goal_radius` of sparse-point-robot)."""
    if name not in FAMILIES:
        raise unknown("family", name, FAMILIES)
    return FAMILIES[name](**options)
