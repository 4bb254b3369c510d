"""What a message asks for is found in it, and any message is read in a moment."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from threadwire_agents.demos.local_model.question import Postcard, Question, Topic, read


def told(question: Question) -> dict[str, Any]:
    return {
        "topics": {topic.name for topic in question.topics},
        "places": question.places,
        "months": question.months,
        "sums": tuple(sum.expression for sum in question.sums),
        "expressions": question.expressions,
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "What's the weather in Lisbon, and how much is 15 % of the temperature?",
            {"topics": {"WEATHER"}, "places": ("Lisbon",), "sums": ("{} * 15 / 100",), "expressions": ()},
        ),
        (
            "How far is it from Paris to Rome by train in hours at 120 km/h?",
            {"topics": {"DISTANCE"}, "places": ("Paris", "Rome"), "expressions": ()},
        ),
        ("Is it warmer in Cairo or in Oslo in May?", {"places": ("Cairo", "Oslo"), "months": (5,)}),
        ("May I ask you something?", {"months": (), "topics": set()}),
        ("What's 2+2?", {"topics": {"SUM"}, "expressions": ("2+2",)}),
        ("15% of 80", {"expressions": ("80 * 15 / 100",)}),
        ("15 percent of 250 plus 3", {"expressions": ("(250 * 15 / 100) + 3",)}),
        ("What is 1,234 times 3?", {"expressions": ("1234 * 3",)}),
        ("the square root of 16 plus 2", {"expressions": ("sqrt(16) + 2",)}),
        ("Call me at 555-123-4567 on 2024-05-06", {"expressions": (), "topics": set()}),
        ("weather in atlantis", {"places": ("atlantis",)}),
        ("What's the weather in the morning?", {"places": ()}),
        ("Tell me about Ljubljana", {"places": ("Ljubljana",)}),
        ("How much is half the population of Rome?", {"sums": ("{} / 2",), "places": ("Rome",)}),
        ("¿Qué tiempo hace en Lisboa?", {"topics": {"WEATHER"}, "places": ("Lisbon",)}),
        ("Are you a real AI?", {"topics": {"IDENTITY"}}),
        ("", {"topics": set(), "places": ()}),
    ],
)
def test_topics_places_and_numbers_are_found(text: str, expected: dict[str, Any]) -> None:
    found = told(read(text))
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("text", "kmh"),
    [
        ("from Paris to Rome at 120 km/h", 120.0),
        ("from Paris to Rome at 100 mph", 160.9344),
        ("How long is a flight from London to New York?", 800.0),
        ("How far is it by train?", None),
        ("from Paris to Rome at 0 km/h", None),
    ],
)
def test_a_speed_is_stated_or_typical(text: str, kmh: float | None) -> None:
    speed = read(text).speed
    assert (speed and speed.kmh) == kmh


@pytest.mark.parametrize(
    ("text", "postcard"),
    [
        ("Send Ada a postcard about the weather in Oslo", Postcard("Ada", None)),
        (
            'Send a postcard to my mother saying "Greetings from Rome!"',
            Postcard("my mother", "Greetings from Rome!"),
        ),
        ("Send a postcard to Ada: 'It's lovely here'", Postcard("Ada", "It's lovely here")),
        ("Write a postcard to Grace Hopper saying I am well.", Postcard("Grace Hopper", "I am well.")),
        ("send ada a card", Postcard("ada", None)),
        ("Please send a postcard", Postcard(None, None)),
        ("Send me a postcard", Postcard(None, None)),
    ],
)
def test_a_postcard_has_somebody_and_a_text(text: str, postcard: Postcard) -> None:
    question = read(text)
    assert Topic.POSTCARD in question.topics
    assert question.postcard == postcard


def test_what_stands_on_a_postcard_is_no_question() -> None:
    question = read('Send a postcard to Ada saying "How far is it from Paris to Rome? 2 + 2"')
    assert question.topics == {Topic.POSTCARD}
    assert question.places == question.expressions == ()


@pytest.mark.parametrize(
    ("before", "text", "expected"),
    [
        (
            "Weather in Rome in May?",
            "And in Oslo?",
            {"topics": {"WEATHER"}, "places": ("Oslo",), "months": (5,)},
        ),
        ("Weather in Rome in May?", "And in July?", {"places": ("Rome",), "months": (7,)}),
        ("Weather in Rome?", "How much is 20% of that?", {"places": ("Rome",), "sums": ("{} * 20 / 100",)}),
        ("From Paris to Rome?", "And to Berlin?", {"topics": {"DISTANCE"}, "places": ("Paris", "Berlin")}),
        ("Tell me about Rome", "How many people live there?", {"topics": {"FACTS"}, "places": ("Rome",)}),
        ("Weather in Rome?", "What is 2 + 2?", {"topics": {"SUM"}, "places": ()}),
        ("Weather in Rome?", "Tell me about Oslo", {"topics": {"FACTS"}, "places": ("Oslo",)}),
        ("hello", "And in July?", {"topics": {"GREETING"}, "places": ()}),
    ],
)
def test_a_short_message_goes_on_with_the_one_before(
    before: str, text: str, expected: dict[str, Any]
) -> None:
    found = told(read(text).after(read(before)))
    assert {name: found[name] for name in expected} == expected


def test_somebody_named_later_gets_the_postcard() -> None:
    question = read("to Grace Hopper").after(read('Send a postcard saying "Hi"'))
    assert question.postcard == Postcard("Grace Hopper", "Hi")


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "from to " * 100_000,
        "1 + " * 100_000,
        "(" * 100_000,
        "Send A A A " * 50_000 + "postcard",
        "'a " * 50_000 + "postcard",
        "In A'a " * 50_000 + "weather",
        " " * 1_000_000,
        "9" * 100_000 + "%",
    ],
)
def test_a_very_long_message_is_read_in_a_moment(text: str) -> None:
    start = time.process_time()
    read(text)
    assert time.process_time() - start < 1


@settings(max_examples=300)
@given(st.text(max_size=300), st.text(max_size=300))
def test_any_two_messages_can_be_read(before: str, text: str) -> None:
    question = read(text).after(read(before))
    assert len(question.places) <= 6
