"""Sentences for a terminal: names are escaped and shortened."""

from __future__ import annotations

import pytest

from nacre.errors import escaped, on_a_line, shown, unknown


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain Ä 東", "plain Ä 東"),
        ("a\nb\tc", r"a\nb\tc"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("turned \u202e round", r"turned \u202e round"),
        ("half \udc80", r"half \udc80"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, safe: str) -> None:
    assert escaped(text) == safe


def test_a_long_name_keeps_its_beginning_and_end() -> None:
    assert shown("short") == "short"
    told = shown("begin" + "x" * 100_000 + "end")
    assert told.startswith("beginx") and told.endswith("xend") and len(told) == 60
    assert len(str(unknown("family", "y" * 100_000, ["point-robot"]))) < 150


def test_a_message_is_one_line_of_bounded_length() -> None:
    assert on_a_line("there is no run at runs/x; check the path.") == "there is no run at runs/x; check the path."
    told = on_a_line(f"there is no run at {'z' * 5000}\n; check \x1b[2J the path.")
    assert (
        told.startswith("there is no run at zzz") and told.endswith(r"\n; check \x1b[2J the path.") and len(told) < 400
    )
    assert len(on_a_line("many words " * 10_000)) == 2000


def test_the_nearest_name_is_proposed_else_all_or_what_to_do() -> None:
    assert str(unknown("family", "point-robt", ["point-robot"])).endswith("did you mean 'point-robot'?")
    assert str(unknown("family", "x", ["b", "a"])).endswith("choose one of: a, b.")
    assert str(unknown("option", "x", ["b", "a"], "see the help.")).endswith("'x'; see the help.")
