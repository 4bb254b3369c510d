"""The table of cities is whole, and its cities are found however they are written."""

from __future__ import annotations

import pytest

from threadwire_agents.demos.cities import CITIES, UnknownCityError, distance_km, find_city, mentions


def test_every_city_has_all_its_facts() -> None:
    assert len(CITIES) >= 40
    assert len({city.name for city in CITIES}) == len(CITIES)
    for city in CITIES:
        assert find_city(city.name) is city
        assert city.country
        assert 100_000 < city.population < 40_000_000
        assert -60 < city.latitude < 70
        assert -180 < city.longitude < 180
        assert len(city.temperatures_c) == 12
        assert all(-15 < temperature < 40 for temperature in city.temperatures_c)
        # Summer is when the sun is on the city's side of the equator.
        january, july = city.temperatures_c[0], city.temperatures_c[6]
        assert (
            city.name == "San Francisco" or abs(city.latitude) < 25 or (january < july) == (city.latitude > 0)
        )


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("lisbon", "Lisbon"),
        (" LISBOA ", "Lisbon"),
        ("sao paulo", "São Paulo"),
        ("Sa\u0303o Paulo", "São Paulo"),
        ("münchen", "Munich"),
        ("new   york", "New York"),
        ("Москва", "Moscow"),
    ],
)
def test_a_city_is_found_however_it_is_written(written: str, name: str) -> None:
    assert find_city(written).name == name


@pytest.mark.parametrize(
    ("written", "hint"), [("Lisbonn", "did you mean Lisbon"), ("", "48 large"), ("x" * 9999, "48")]
)
def test_an_unknown_city_is_an_error_with_a_hint(written: str, hint: str) -> None:
    with pytest.raises(UnknownCityError, match=hint) as unknown:
        find_city(written)
    assert len(str(unknown.value)) < 150


def test_cities_are_found_in_a_text_in_its_order() -> None:
    text = "From new york city to Sao Paulo and ROMA, not Romania or Parisian"
    assert [name for _, name in mentions(text)] == ["New York", "São Paulo", "Rome"]
    assert next(mentions(text))[0] == text.index("new york")


@pytest.mark.parametrize(
    ("a", "b", "km"), [("Paris", "Rome", 1105), ("London", "New York", 5570), ("Sydney", "Lima", 12_800)]
)
def test_distances_are_those_of_the_globe(a: str, b: str, km: float) -> None:
    assert distance_km(find_city(a), find_city(b)) == pytest.approx(km, rel=0.01)
    assert distance_km(find_city(a), find_city(b)) == distance_km(find_city(b), find_city(a))
    assert distance_km(find_city(a), find_city(a)) == 0
