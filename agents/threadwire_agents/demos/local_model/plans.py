"""What to do about a question: each plan is a generator that yields the tool calls it needs next, is
sent their results, and returns what to say.

A plan keeps nothing between two replies: it is played again from its beginning with the results
that are in the conversation by then.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ..cities import MONTHS
from .question import Question, Sum, Topic

# How LangChain's approval middleware words what it returns for a call that was refused or changed.
_REJECTED: Final = "User rejected the tool call"
_REASON: Final = "with reason: "
_CHANGED: Final = "\n\nTool response:\n"


@dataclass(frozen=True)
class Call:
    """A tool's name, and its arguments by name."""

    tool: str
    args: dict[str, Any]

    @property
    def key(self) -> str:
        """Equal for equal calls."""
        return json.dumps([self.tool, self.args], sort_keys=True, ensure_ascii=False)


@dataclass(frozen=True)
class Result:
    """What came back for a call: text, which is a JSON object where a tool of the demo has run."""

    text: str
    failed: bool = False

    @property
    def value(self) -> dict[str, Any]:
        """The tool's JSON object; empty where there is none."""
        try:
            value = json.loads(self._body)
        except (ValueError, RecursionError):
            return {}
        return value if isinstance(value, dict) and not self.failed else {}

    @property
    def problem(self) -> str:
        """What went wrong, or came in the place of a result, as one short line."""
        line = " ".join(self._body.split())
        if line.startswith(_REJECTED):
            reason = line.partition(_REASON)[2]
            return f"the call was rejected: {short(reason)}" if reason else "the call was rejected"
        return short(line, 300) or "the tool returned nothing"

    @property
    def _body(self) -> str:
        """The text without the note that a reviewer has changed the call."""
        return self.text.rpartition(_CHANGED)[2]


Plan: TypeAlias = Generator[Sequence[Call], list[Result], str]


def plans(question: Question) -> list[Plan]:
    """The plans that answer a question, in the order of their answers; none for small talk."""
    topics = question.topics
    found: list[Plan] = []
    if Topic.POSTCARD in topics:
        found.append(_postcard(question))
    elif Topic.DISTANCE in topics and len(question.places) > 1:
        found.append(_distance(question))
        if Topic.WEATHER in topics:
            found.append(_weather(question))
    elif question.places and (Topic.WEATHER in topics or (question.months and Topic.FACTS not in topics)):
        found.append(_weather(question))
    elif question.places:
        found.append(_facts(question))
    found.extend(_calculation(expression) for expression in question.expressions)
    return found


# plans


def _weather(question: Question) -> Plan:
    month = {"month": question.months[0]} if question.months else {}
    weather = [Call("weather", {"city": place, **month}) for place in question.places]
    facts = [Call("look_up_city", {"name": place}) for place in question.places]
    results = yield [*weather, *facts]
    known = list(zip(results[: len(weather)], results[len(weather) :], strict=True))
    lines: list[str] = []
    temperatures: list[tuple[str, Any]] = []
    for place, (found, about) in zip(question.places, known, strict=True):
        try:
            lines.append(_typical(found.value, about.value))
            temperatures.append((found.value["city"], found.value["temperature_c"]))
        except (KeyError, TypeError):
            lines.append(f"For **{short(place)}** there is no weather: {found.problem}.")
    answer = _listed(lines)
    if not temperatures:
        return answer
    city, temperature = temperatures[0]
    sums = list(question.sums)
    if question.fahrenheit:
        sums.append(Sum("in °F that", "{} * 9 / 5 + 32"))
    calls = [_sum_call(sum, temperature) for sum in sums]
    if len(temperatures) > 1:
        calls.append(Call("calculate", {"expression": f"{temperature} - {_operand(temperatures[1][1])}"}))
    if calls:
        worked_out = yield calls
        answer += "\n\n" + "\n".join(
            _worked_out(sum.words, result, "°F" if "°F" in sum.words else "°C")
            for sum, result in zip(sums, worked_out, strict=False)
        )
        if len(temperatures) > 1:
            answer = answer.rstrip() + "\n\n" + _compared(city, temperatures[1][0], worked_out[-1])
    return answer.rstrip() + "\n\n*Typical values of many years, not a forecast: this demo has no network.*"


def _distance(question: Question) -> Plan:
    a, b = question.places[:2]
    far, *about = yield [
        Call("distance", {"a": a, "b": b}),
        Call("look_up_city", {"name": a}),
        Call("look_up_city", {"name": b}),
    ]
    try:
        start, end, km = far.value["a"], far.value["b"], far.value["km"]
    except KeyError:
        return f"I can't tell how far it is from **{short(a)}** to **{short(b)}**: {far.problem}."
    names = [
        f"**{name}** ({found.value['country']})" if "country" in found.value else f"**{name}**"
        for name, found in zip((start, end), about, strict=True)
    ]
    answer = f"From {names[0]} to {names[1]} it is **{_number(km)} km** along the great circle."
    sums = list(question.sums)
    if question.miles:
        sums.append(Sum("in miles that", "{} / 1.609344"))
    calls = [_sum_call(sum, km) for sum in sums]
    if question.speed:
        calls.append(Call("calculate", {"expression": f"{km} / {question.speed.kmh:g}"}))
    if calls:
        results = yield calls
        for sum, result in zip(sums, results, strict=False):
            answer += "\n\n" + _worked_out(sum.words, result, "miles" if "miles" in sum.words else "km")
        if question.speed:
            answer += "\n\n" + _duration(question.speed.words, results[-1])
    if question.how_long and not question.speed:
        answer += "\n\nHow long that takes depends on the speed: tell me one, such as `at 120 km/h`."
    return answer


def _facts(question: Question) -> Plan:
    results = yield [Call("look_up_city", {"name": place}) for place in question.places]
    lines: list[str] = []
    known: list[dict[str, Any]] = []
    for place, result in zip(question.places, results, strict=True):
        city = result.value
        try:
            lines.append(
                f"**{city['name']}** lies in {city['country']}, at {city['position']}, and has about"
                f" {_number(city['population'])} inhabitants."
            )
            known.append(city)
        except KeyError:
            lines.append(f"I know nothing about **{short(place)}**: {result.problem}.")
    answer = _listed(lines)
    if not question.topics and len(question.text.split()) > 3:
        answer = f"I have no rule for that; what I know is this:\n\n{answer}"
    if question.sums and known:
        calls = [_sum_call(sum, known[0]["population"]) for sum in question.sums]
        for sum, worked_out in zip(question.sums, (yield calls), strict=True):
            answer += "\n\n" + _worked_out(sum.words, worked_out, "inhabitants")
    if len(known) > 1:
        large, small, *_ = sorted(known, key=lambda city: -city["population"])
        expression = f"round({large['population']} / {small['population']}, 1)"
        (ratio,) = yield [Call("calculate", {"expression": expression})]
        if "result" in ratio.value:
            answer += (
                f"\n\n{large['name']} has **{_number(ratio.value['result'])} times** as many"
                f" inhabitants as {small['name']}."
            )
    return answer


def _postcard(question: Question) -> Plan:
    to, text = question.postcard.to, question.postcard.text
    if to is None:
        return "To whom shall the postcard go? Tell me, for example: `to Ada`."
    if text is None and question.places:
        place = question.places[0]
        month = {"month": question.months[0]} if question.months else {}
        (found,) = yield [Call("weather", {"city": place, **month})]
        value = found.value
        if "temperature_c" not in value:
            return f"No postcard was written: for **{short(place)}** there is no weather: {found.problem}."
        when = f"in {MONTHS[question.months[0] - 1]}" if question.months else "over the year"
        temperature = _number(value["temperature_c"])
        text = f"Greetings from {value['city']}! It is typically {temperature} °C here {when}."
    text = text or "Greetings from Threadwire!"
    (sent,) = yield [Call("send_postcard", {"to": to, "text": text})]
    value = sent.value
    if "to" in value and "text" in value:
        changed = "" if (value["to"], value["text"]) == (to, text) else ", with your changes"
        name, words = short(str(value["to"])), _quoted(str(value["text"]))
        return f"The postcard to **{name}** is on its way{changed}:\n\n{words}"
    if sent.failed:
        return f"No postcard was sent: {sent.problem}. Tell me what to change, and I'll write another one."
    return f"No postcard was sent; this was said in its place:\n\n{_quoted(sent.text)}"


def _calculation(expression: str) -> Plan:
    (result,) = yield [Call("calculate", {"expression": expression})]
    if "result" not in result.value:
        return f"`{short(expression, 200)}` can't be calculated: {result.problem}."
    return f"`{short(expression, 200)}` is **{_number(result.value['result'])}**."


# words


def introduction(calls: Sequence[Call], *, first: bool) -> str:
    """What is said before tools are called."""
    phrases = {
        "weather": "see what the weather is typically like",
        "look_up_city": "look up the facts",
        "distance": "measure the distance",
        "calculate": "do the arithmetic",
        "send_postcard": "write the postcard",
    }
    names = dict.fromkeys(call.tool for call in calls)
    what = _and([phrases.get(name, f"use {name}") for name in names])
    return f"Let me {what}." if first else f"Now I can {what}."


def short(text: str, longest: int = 80) -> str:
    """The text on one line, cut where it is long."""
    line = " ".join(text.split())
    return line if len(line) <= longest else line[: longest - 1].rstrip() + "…"


def _typical(weather: dict[str, Any], about: dict[str, Any]) -> str:
    where = f"**{weather['city']}** ({about['country']})" if "country" in about else f"**{weather['city']}**"
    typical = f"**{_number(weather['temperature_c'])} °C**"
    if weather.get("month"):
        return f"In {weather['month']}, {where} is typically at {typical}."
    warmest, coldest = weather["warmest"], weather["coldest"]
    return (
        f"Over the year, {where} is typically at {typical}: from {_number(coldest['temperature_c'])} °C"
        f" in {coldest['month']} to {_number(warmest['temperature_c'])} °C in {warmest['month']}."
    )


def _compared(a: str, b: str, difference: Result) -> str:
    degrees = difference.value.get("result")
    if not isinstance(degrees, int | float):
        return f"The difference can't be calculated: {difference.problem}."
    if degrees == 0:
        return f"{a} and {b} are equally warm."
    return f"{a} is **{_number(abs(degrees))} °C {'warmer' if degrees > 0 else 'colder'}** than {b}."


def _duration(speed: str, result: Result) -> str:
    hours = result.value.get("result")
    if not isinstance(hours, int | float):
        return f"How long that takes can't be calculated: {result.problem}."
    minutes = round(hours * 60)
    return (
        f"At {speed} that takes **{_number(round(hours, 2))} hours** ({minutes // 60} h {minutes % 60} min)."
        " On the ground the way is longer than the great circle, and so is the time."
    )


def _worked_out(words: str, result: Result, unit: str) -> str:
    value, expression = result.value.get("result"), result.value.get("expression")
    words = words[0].upper() + words[1:]
    if value is None:
        return f"{words} can't be calculated: {result.problem}."
    return f"{words} is **{_number(value)} {unit}** (`{expression}`)."


def _sum_call(sum: Sum, value: Any) -> Call:
    return Call("calculate", {"expression": sum.expression.format(_operand(value))})


def _operand(value: Any) -> str:
    return f"({value})" if isinstance(value, int | float) and value < 0 else str(value)


def _number(value: Any) -> str:
    """Thousands apart by a narrow space, as many digits as there are."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return short(str(value))
    if isinstance(value, float) and not 1e-4 <= abs(value) < 1e15:
        return f"{value:g}"
    return f"{value:,}".replace(",", "\u202f").replace("-", "−")


def _listed(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines) if len(lines) > 1 else "".join(lines)


def _and(phrases: list[str]) -> str:
    return phrases[0] if len(phrases) == 1 else f"{', '.join(phrases[:-1])} and {phrases[-1]}"


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" for line in text.strip()[:1000].splitlines()) or "> "


TALK: Final[tuple[tuple[Topic, str], ...]] = (
    (
        Topic.IDENTITY,
        "I am no language model: I am a stand-in for one, a few hundred lines of rules that run on this"
        " machine without a network. My answers follow from patterns in what you write; the tools that I"
        " call are real. `THREADWIRE_MODEL=provider:model` puts a language model in my place.",
    ),
    (Topic.THANKS, "You're welcome. Ask me something else whenever you like."),
    (Topic.GOODBYE, "Goodbye! This conversation is kept: come back and go on where you left."),
    (Topic.GREETING, "Hello!"),
)
ABILITIES: Final = """\
I can use a few tools. Try one of these:

- What's the weather in Lisbon, and how much is 15 % of the temperature?
- How far is it from Paris to Rome by train in hours at 120 km/h?
- Which is bigger, Tokyo or Oslo?
- What is (17 + 4) * 2 ** 10?
- Send Ada a postcard about the weather in Oslo in July. *(I ask before I send it.)*"""


def talk(question: Question, *, images: bool = False) -> str:
    """What to say where no plan answers."""
    said = [text for topic, text in TALK if topic in question.topics]
    if images:
        said.insert(0, "I see that you sent more than text, but I can read text only.")
    known = bool(said) or Topic.HELP in question.topics or not question.text
    if Topic.WEATHER in question.topics or Topic.DISTANCE in question.topics:
        many = "two places" if Topic.DISTANCE in question.topics else "a city"
        return "\n\n".join(
            (*said, f"Tell me {many}, and I'll answer that: Lisbon and Tokyo are among those I know.")
        )
    if not question.english and not known:
        said.append("I understand English only, sorry.")
    elif not known:
        said.append(f"I have no rule for “{short(question.text)}”: I am a stand-in for a language model.")
    if said and question.topics & {Topic.THANKS, Topic.GOODBYE} and Topic.HELP not in question.topics:
        return "\n\n".join(said)
    return "\n\n".join((*said, ABILITIES))
