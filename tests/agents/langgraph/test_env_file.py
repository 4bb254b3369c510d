"""Files of environment variables, strictly read."""

from __future__ import annotations

import pytest

from threadwire_agents.langgraph.env_file import parse_env


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("A=1", {"A": "1"}),
        ("A=1\nB=2\n", {"A": "1", "B": "2"}),
        ("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}),
        ("# a comment\n\n  \n\tA=1\n", {"A": "1"}),
        ("export A=1", {"A": "1"}),
        ("A = 1 2 ", {"A": "1 2"}),
        ("A=", {"A": ""}),
        ("A= # none", {"A": ""}),
        ("A=1 # one", {"A": "1"}),
        ("A=1#2", {"A": "1#2"}),
        ("A=#fff", {"A": "#fff"}),
        ("A=b=c==", {"A": "b=c=="}),
        ("A='1 # 2' # three", {"A": "1 # 2"}),
        ("A=''", {"A": ""}),
        (r"A='a\n${B}'", {"A": r"a\n${B}"}),
        (r'A="a\n\t\"b\" \\ \$ \x"', {"A": 'a\n\t"b" \\ $ \\x'}),
        ('A="one\ntwo"\nB=2', {"A": "one\ntwo", "B": "2"}),
        ("A='one\ntwo'\nB=2", {"A": "one\ntwo", "B": "2"}),
        ("A=it's", {"A": "it's"}),
        ("A=größe", {"A": "größe"}),
        ("A=1\nA=2", {"A": "2"}),
        ("A=1\nB=${A}2", {"A": "1", "B": "12"}),
        ('B="<${KNOWN}>"', {"B": "<known>"}),
        ("B=${NO}${NO:-else}${KNOWN:-else}", {"B": "elseknown"}),
        (r'B="\${KNOWN}"', {"B": "${KNOWN}"}),
        ("B=$KNOWN ${", {"B": "$KNOWN ${"}),
        ("KNOWN=mine\nB=${KNOWN}", {"KNOWN": "mine", "B": "known"}),
    ],
)
def test_variables_are_read(text: str, found: dict[str, str]) -> None:
    assert parse_env(text, {"KNOWN": "known"}) == found


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("A", 1),
        ("=1", 1),
        ("A=1\nB-C=2", 2),
        ("A=1\n\n2A=1", 3),
        ("A='1", 1),
        ('A=1\nB="2\nC=3', 2),
        ("A='1' 2", 1),
        ('A="1"2', 1),
        ("A: 1", 1),
        ("A='one\ntwo'\nnothing", 3),
        ("A=\0", 1),
        ('{"A": "1"}', 1),
    ],
)
def test_a_line_that_is_no_variable_is_named(text: str, line: int) -> None:
    with pytest.raises(ValueError, match=rf"^line {line}: expected KEY=VALUE$"):
        parse_env(text, {})
