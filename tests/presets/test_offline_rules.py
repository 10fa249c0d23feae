"""Presets of offline methods follow the facts of a family that a person has registered."""

from __future__ import annotations

from typing import ClassVar

import pytest

from nacre.families.catalog import FAMILIES
from nacre.families.family import Family
from nacre.families.half_cheetah import CheetahVel
from nacre.families.point import PointRobotHalfCircle
from nacre.families.walker_hopper import WalkerParams
from nacre.runs.experiment import from_preset


class OwnPoint(PointRobotHalfCircle):
    name: ClassVar[str] = "own-point"


class OwnWalker(WalkerParams):
    name: ClassVar[str] = "own-walker"


class OwnCheetah(CheetahVel):
    name: ClassVar[str] = "own-cheetah"


@pytest.mark.parametrize("family", [OwnPoint, OwnWalker, OwnCheetah])
@pytest.mark.parametrize("preset", ["paper", "fast", "smoke"])
def test_settings_of_a_persons_family_follow_its_facts(
    preset: str, family: type[Family], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The encoder sees next observations unless a MuJoCo robot is the same in every task; credit has a short horizon
    where episodes are short."""
    monkeypatch.setitem(FAMILIES, family.name, family)
    assert from_preset("pearl", family.name, preset).settings.use_next_obs_in_context == (
        family is not OwnCheetah or preset == "fast"  # which shows them to the encoder in all narrow families
    )
    for method in ("focal", "offline-pearl", "macaw", "multitask-awr", "bc"):
        settings = from_preset(method, family.name, preset).settings
        assert settings.discount == (0.9 if family is OwnPoint else 0.99)
        if method in ("focal", "offline-pearl"):
            assert settings.use_next_obs_in_context == (family is not OwnCheetah)
