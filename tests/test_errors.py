"""Messages: one line per value, no control characters, bounded length."""

import pytest

from cryoetgan.errors import LONGEST_MESSAGE, LONGEST_VALUE, UserError, shown


@pytest.mark.parametrize(
    "value", ["a\nb", "\x1b[2J", "\x00", "\u202egnp.exe", "\ud800", "x" * 10_000, "\x07" * 500]
)
def test_a_value_is_shown_on_one_line_of_bounded_length(value):
    text = shown(value)
    assert text.isprintable()
    assert len(text) <= LONGEST_VALUE + 2
    assert text.encode("utf-8")


def test_nested_values_are_counted_and_not_expanded():
    level = ["x"]
    for _ in range(60):
        level = [level, level]
    assert shown(level) == "a list of 2 values"


def test_a_message_keeps_its_lines_and_its_end():
    message = str(UserError("bad \x1b[31m\nline 2 " + "y" * 100_000 + " delete it"))
    assert len(message) <= LONGEST_MESSAGE
    assert message.endswith("delete it")
    assert message.splitlines()[1].startswith("line 2")
    assert "\x1b" not in message
