"""What is registered for a test, and forgotten behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from nacre.families.catalog import FAMILIES, register_family
from swinging import Balls


@pytest.fixture
def balls() -> Iterator[None]:
    """The family `balls`, registered; afterwards only nacre's own are there, whatever a test has registered."""
    before = dict(FAMILIES)
    register_family(Balls)
    yield
    FAMILIES.clear()
    FAMILIES.update(before)
