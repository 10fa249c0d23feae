"""The package's front door: public names, documented."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import nacre


def test_the_public_names_are_there() -> None:
    assert len(nacre.__all__) == len(set(nacre.__all__))
    assert {"train", "resume", "load", "evaluate", "score", "TrainedAgent", "Session", "NacreError"} <= set(
        nacre.__all__
    )
    assert all(hasattr(nacre, name) for name in nacre.__all__)


@pytest.mark.parametrize("name", nacre.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    thing = getattr(nacre, name)
    if not (inspect.isclass(thing) or callable(thing)):  # the two tables, which the module that holds them explains
        assert thing and all(isinstance(key, str) for key in thing)
        return
    words = inspect.getdoc(thing)
    assert words
    assert not words.startswith(f"{name}("), "only the signature that dataclasses and named tuples make up"


@pytest.mark.parametrize(
    "kind", [nacre.TrainedAgent, nacre.Session, nacre.RunDirectory], ids=lambda kind: kind.__name__
)
def test_every_public_method_is_documented(kind: type[Any]) -> None:
    for name, member in vars(kind).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property | classmethod)):
            assert inspect.getdoc(member), name
