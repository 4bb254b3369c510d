"""The tools of the demo assistant. What they return is JSON; what they can't do is told to the model.

All answer from this machine: nothing is looked up on a network, and no postcard leaves it.
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, TypedDict

from langchain.tools import ToolRuntime, tool
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, ToolException
from langgraph.config import get_stream_writer
from langgraph.types import Command
from pydantic import Field

from . import cities
from .calculator import CalculationError
from .calculator import calculate as work_out

MAX_POSTCARD: Final = 1000

CityName = Annotated[str, Field(description="a city's name, such as Lisbon")]


class Postcard(TypedDict):
    """A postcard that was sent; `number` counts those of this conversation from 1."""

    number: int
    to: str
    text: str


@tool
def calculate(
    expression: Annotated[str, Field(description="such as 17.5 * 15 / 100, sqrt(2) or round(2 / 3, 2)")],
) -> dict[str, Any]:
    """Calculates with numbers, + - * / // % **, brackets and functions such as sqrt, round and log."""
    try:
        return {"expression": expression, "result": work_out(expression)}
    except CalculationError as error:
        raise ToolException(str(error)) from None


@tool
def look_up_city(name: CityName) -> dict[str, Any]:
    """Tells a city's country, population and position."""
    city = _city(name)
    return {
        "name": city.name,
        "country": city.country,
        "population": city.population,
        "latitude": city.latitude,
        "longitude": city.longitude,
        "position": city.position,
    }


@tool
def distance(a: CityName, b: CityName) -> dict[str, Any]:
    """Tells how many kilometres lie between two cities, along the great circle."""
    start, end = _city(a), _city(b)
    return {"a": start.name, "b": end.name, "km": round(cities.distance_km(start, end))}


@tool
def weather(
    city: CityName,
    month: Annotated[int | None, Field(ge=1, le=12, description="1 to 12; the whole year without it")] = None,
) -> dict[str, Any]:
    """Tells the temperature that is typical for a city, in a month or over the year; it is no forecast."""
    found = _city(city)
    if month is not None:
        temperature = found.temperatures_c[month - 1]
        return {"city": found.name, "month": cities.MONTHS[month - 1], "temperature_c": temperature}
    progress = get_stream_writer()
    months: list[dict[str, Any]] = []
    for name, temperature in zip(cities.MONTHS, found.temperatures_c, strict=True):
        months.append({"month": name, "temperature_c": temperature})
        progress({"tool": "weather", "city": found.name, "months": len(months), "of": 12})
    return {
        "city": found.name,
        "temperature_c": round(sum(found.temperatures_c) / 12, 1),
        "coldest": min(months, key=lambda month: month["temperature_c"]),
        "warmest": max(months, key=lambda month: month["temperature_c"]),
    }


@tool
def send_postcard(
    to: Annotated[str, Field(description="who gets it")],
    text: Annotated[str, Field(description="what is written on it")],
    runtime: ToolRuntime,
) -> Command[Any]:
    """Sends a postcard. Somebody has to approve it first."""
    if not to.strip() or not text.strip():
        raise ToolException("a postcard needs somebody to go to, and a text")
    if len(text) > MAX_POSTCARD:
        raise ToolException(f"there is room for {MAX_POSTCARD} characters on a postcard, not for {len(text)}")
    card = Postcard(number=len(runtime.state.get("postcards", ())) + 1, to=to.strip(), text=text.strip())
    answer = ToolMessage(
        json.dumps(card, ensure_ascii=False), name="send_postcard", tool_call_id=runtime.tool_call_id
    )
    return Command(update={"postcards": [card], "messages": [answer]})


def _city(name: str) -> cities.City:
    try:
        return cities.find_city(name)
    except cities.UnknownCityError as error:
        raise ToolException(str(error)) from None


TOOLS: Final[tuple[BaseTool, ...]] = (calculate, look_up_city, distance, weather, send_postcard)

for _tool in TOOLS:
    _tool.handle_tool_error = True  # the model gets a ToolException's text as the result of its call
