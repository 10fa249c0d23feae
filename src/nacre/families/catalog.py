"""Every family by name."""

from __future__ import annotations

import importlib.util
import re
from typing import Any

from nacre.errors import NacreError, unknown
from nacre.families import gymnasium_ids, plugins
from nacre.families.ant import AntDir, AntDir360, AntGoal, AntGravity
from nacre.families.family import Family
from nacre.families.half_cheetah import CheetahDir, CheetahGravity, CheetahVel, CheetahVelWide
from nacre.families.humanoid import HumanoidDir, HumanoidGravity
from nacre.families.inversion import CheetahInversion, ReacherInversion
from nacre.families.metaworld import ML1, ML10
from nacre.families.options import checked_options
from nacre.families.point import PointRobot, PointRobotHalfCircle, PointWind, SparsePointRobot
from nacre.families.walker_hopper import HopperGravity, HopperParams, WalkerGravity, WalkerParams

# The paper's, in the order of its settings' table; then those that people have used since.
FAMILIES: dict[str, type[Family]] = {
    "point-robot": PointRobot,
    "sparse-point-robot": SparsePointRobot,
    "cheetah-dir": CheetahDir,
    "cheetah-vel": CheetahVel,
    "ant-dir": AntDir,
    "ant-goal": AntGoal,
    "humanoid-dir": HumanoidDir,
    "walker-params": WalkerParams,
    "hopper-params": HopperParams,
    "ant-dir-360": AntDir360,
    "cheetah-vel-wide": CheetahVelWide,
    "ant-gravity": AntGravity,
    "cheetah-gravity": CheetahGravity,
    "hopper-gravity": HopperGravity,
    "walker-gravity": WalkerGravity,
    "humanoid-gravity": HumanoidGravity,
    "cheetah-inversion": CheetahInversion,
    "reacher-inversion": ReacherInversion,
    "point-wind": PointWind,
    "point-robot-half-circle": PointRobotHalfCircle,
}

ENTRY_POINTS = "nacre.families"
"""Group of entry points: `name = "module:class"`, a family of that name."""
OPTIONAL: dict[str, type[Family]] = {"ml1": ML1, "ml10": ML10}
"""Families of the extra `metaworld`."""
if importlib.util.find_spec("metaworld") is not None:
    FAMILIES |= OPTIONAL

_BUILT_IN = frozenset(FAMILIES) | frozenset(OPTIONAL)
_registered_by: dict[str, str] = {}  # name -> the module that registered it


NAME = re.compile(r"\w+(-\w+)*")
"""What a family may be called."""


def register_environments() -> None:
    """Makes all families known to Gymnasium; those of installed packages are not loaded for that."""
    for family in (OPTIONAL | FAMILIES).values():
        gymnasium_ids.register(family)
    for name in plugins.entry_points(ENTRY_POINTS):
        if NAME.fullmatch(name):
            gymnasium_ids.register_unseen(name)


def family_names() -> list[str]:
    """The names of all families, those that installed packages offer included, which are not loaded for that."""
    return list(dict.fromkeys([*FAMILIES, *plugins.entry_points(ENTRY_POINTS)]))


def is_known(name: str) -> bool:
    """Whether there is a family of this name, perhaps in an installed package, or one that needs an extra."""
    return name in FAMILIES or name in OPTIONAL or name in plugins.entry_points(ENTRY_POINTS)


def load_offered() -> None:
    """Loads the families of installed packages into FAMILIES, but for those that cannot be."""
    plugins.load_all(ENTRY_POINTS, find_family)


def register_family(family: type[Family], module: str | None = None) -> type[Family]:
    """Makes a family known by its name; `module` registers it, the caller unless given. `nacre.register_family` also
    checks its options (`runs/registration.py`).
    """
    if family.name in _BUILT_IN:
        raise NacreError(f"'{family.name}' is a family of nacre's own; choose another name.")
    if not NAME.fullmatch(family.name):
        raise NacreError(f"'{family.name}' is no name for a family; write letters and digits, with hyphens between.")
    own_id = gymnasium_ids.environment_id(family.name)
    for other in [*OPTIONAL, *family_names()]:
        if other != family.name and gymnasium_ids.environment_id(other) == own_id:
            raise NacreError(
                f"'{family.name}' would be {own_id} in Gymnasium, as the family {other} is; choose another name."
            )
    FAMILIES[family.name] = family
    _registered_by[family.name] = module or plugins.caller_module()
    if gymnasium_ids.is_imported():
        gymnasium_ids.register(family)
    return family


def is_built_in(name: str) -> bool:
    """Whether a family of this name is nacre's own."""
    return name in _BUILT_IN


def registered_by(name: str) -> str:
    """The module that registered a family; '' for those that are found without."""
    return _registered_by.get(name, "")


def make_family(name: str, **options: Any) -> Family:
    """The family of that name, with its options (`goal_radius` of sparse-point-robot); tuples may be lists, as JSON has
    them. Raises NacreError for a value of another type than the option's."""
    family = find_family(name)
    return family(**checked_options(family, options))


def find_family(name: str) -> type[Family]:
    """The class of that name; NacreError, with the nearest name, where there is none."""
    if name in OPTIONAL and name not in FAMILIES:
        raise NacreError(
            f"the family {name} needs Meta-World, which pins an older MuJoCo: make a separate environment, and "
            "install nacre there with the extra, pip install 'nacre[metaworld]'."
        )
    if name not in FAMILIES:
        offered = plugins.load_entry_point(ENTRY_POINTS, name)
        if offered is None:
            raise unknown("family", name, family_names())
        if not (isinstance(offered, type) and issubclass(offered, Family) and offered.name == name):
            raise NacreError(f"the entry point '{name}' in {ENTRY_POINTS} must be a class of a family with that name.")
        register_family(offered)
        _registered_by.pop(name)  # found again without a module's help
    return FAMILIES[name]
