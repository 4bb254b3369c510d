"""A small table of cities: where they are, how many people live there, how warm they typically are.

Populations are of the city proper, rounded. Temperatures are the means of each month over many
years, rounded to whole degrees: what is typical, never what it is today.
"""

from __future__ import annotations

import difflib
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip

_EARTH_RADIUS_KM: Final = 6371.0088


@dataclass(frozen=True)
class City:
    """`temperatures_c` are the monthly means from January on; latitude and longitude are in degrees."""

    name: str
    country: str
    population: int
    latitude: float
    longitude: float
    temperatures_c: tuple[int, ...]

    @property
    def position(self) -> str:
        """Such as `38.72° N, 9.14° W`."""
        north, east = "N" if self.latitude >= 0 else "S", "E" if self.longitude >= 0 else "W"
        return f"{abs(self.latitude):.2f}° {north}, {abs(self.longitude):.2f}° {east}"


class UnknownCityError(ValueError):
    """The table doesn't have a city; says which it may have been."""


# name, country, population, latitude, longitude, temperatures
_TABLE: Final = """\
Amsterdam       the Netherlands        921_000   52.37     4.90   4  4  6 10 13 16 18 18 15 11  7  4
Athens          Greece                 643_000   37.98    23.73  10 11 13 17 22 27 29 29 25 20 16 12
Auckland        New Zealand          1_480_000  -36.85   174.76  20 20 19 17 14 12 11 12 13 14 16 18
Bangkok         Thailand             8_300_000   13.75   100.50  28 29 30 31 30 30 29 29 29 28 28 27
Barcelona       Spain                1_660_000   41.39     2.17  10 10 12 14 17 22 24 25 22 18 13 11
Beijing         China               21_900_000   39.90   116.41  -3  0  7 15 21 25 27 26 21 14  5 -1
Berlin          Germany              3_680_000   52.52    13.40   1  2  5 10 14 18 20 19 15 10  5  2
Bogotá          Colombia             7_900_000    4.71   -74.07  14 14 15 15 15 14 14 14 14 14 14 14
Buenos Aires    Argentina            3_120_000  -34.60   -58.38  25 24 22 18 15 12 11 13 15 18 21 24
Cairo           Egypt               10_100_000   30.04    31.24  14 15 18 22 26 28 29 29 27 25 20 15
Cape Town       South Africa         4_770_000  -33.92    18.42  21 22 20 18 15 13 13 13 14 16 19 20
Chicago         the United States    2_750_000   41.88   -87.63  -4 -2  4 10 16 22 24 23 19 13  6 -1
Copenhagen      Denmark                660_000   55.68    12.57   2  2  4  8 13 16 18 18 15 10  6  3
Delhi           India               16_800_000   28.61    77.21  14 17 23 29 33 33 32 31 30 26 21 16
Dublin          Ireland                592_000   53.35    -6.26   5  5  7  8 11 14 16 15 13 11  7  6
Edinburgh       the United Kingdom     507_000   55.95    -3.19   4  5  6  8 11 13 15 15 13 10  6  4
Helsinki        Finland                675_000   60.17    24.94  -3 -4  0  5 11 15 18 17 12  7  3 -1
Istanbul        Turkey              15_700_000   41.01    28.98   6  6  8 12 17 22 25 25 21 17 12  8
Lagos           Nigeria             15_400_000    6.52     3.38  27 29 29 28 28 26 26 25 26 27 28 28
Lima            Peru                10_000_000  -12.05   -77.04  23 24 24 22 20 18 17 17 17 18 20 21
Lisbon          Portugal               546_000   38.72    -9.14  12 13 15 16 18 21 23 24 22 19 15 12
London          the United Kingdom   8_900_000   51.51    -0.13   6  6  8 11 14 17 19 19 16 12  9  6
Los Angeles     the United States    3_820_000   34.05  -118.24  14 14 15 16 18 20 22 23 22 20 17 14
Madrid          Spain                3_330_000   40.42    -3.70   6  8 11 13 18 23 26 26 21 15 10  7
Mexico City     Mexico               9_200_000   19.43   -99.13  14 16 18 19 20 19 18 18 18 17 15 14
Moscow          Russia              13_000_000   55.76    37.62  -6 -6 -1  7 14 17 20 18 12  6 -1 -5
Mumbai          India               12_400_000   19.08    72.88  24 25 27 29 31 29 28 28 28 29 28 26
Munich          Germany              1_510_000   48.14    11.58   1  2  6 10 14 18 20 19 15 10  5  2
Nairobi         Kenya                4_400_000   -1.29    36.82  20 21 21 20 19 18 17 18 19 20 20 20
New York        the United States    8_480_000   40.71   -74.01   1  2  6 12 17 22 25 24 21 15  9  4
Oslo            Norway                 709_000   59.91    10.75  -3 -3  1  6 12 16 18 17 12  6  1 -3
Paris           France               2_100_000   48.86     2.35   5  6  9 12 15 19 21 21 17 13  9  6
Porto           Portugal               232_000   41.15    -8.61  10 11 13 14 16 18 20 20 19 17 13 11
Prague          Czechia              1_360_000   50.08    14.44   0  1  5 10 14 18 20 19 15 10  5  1
Reykjavik       Iceland                139_000   64.15   -21.94   1  1  1  4  7 10 12 11  9  5  2  1
Rio de Janeiro  Brazil               6_210_000  -22.91   -43.17  27 27 26 25 23 22 22 22 23 24 25 26
Rome            Italy                2_750_000   41.90    12.50   8  9 11 14 18 22 25 25 21 17 13  9
San Francisco   the United States      874_000   37.77  -122.42  10 12 13 13 14 15 15 16 17 16 13 11
São Paulo       Brazil              11_500_000  -23.55   -46.63  23 23 22 21 18 17 17 18 19 20 21 22
Seoul           South Korea          9_400_000   37.57   126.98  -2  1  6 13 18 23 25 26 22 15  8  0
Singapore       Singapore            5_900_000    1.35   103.82  27 27 28 28 29 29 28 28 28 28 27 27
Stockholm       Sweden                 985_000   59.33    18.07  -1 -1  2  6 12 16 19 18 13  8  4  1
Sydney          Australia            5_300_000  -33.87   151.21  23 23 22 19 16 14 13 14 17 19 20 22
Tokyo           Japan               14_000_000   35.68   139.69   5  6  9 14 19 22 26 27 23 18 13  8
Toronto         Canada               2_790_000   43.65   -79.38  -4 -3  1  7 14 19 22 21 17 11  5 -1
Vienna          Austria              2_000_000   48.21    16.37   1  3  7 12 16 20 22 22 16 11  6  2
Warsaw          Poland               1_860_000   52.23    21.01  -1  0  4 10 14 18 20 19 14  9  4  1
Zurich          Switzerland            430_000   47.38     8.54   1  2  6 10 14 17 19 19 15 10  5  2
"""
_OTHER_NAMES: Final = {
    "Athen": "Athens",
    "Peking": "Beijing",
    "北京": "Beijing",
    "Kairo": "Cairo",
    "København": "Copenhagen",
    "New Delhi": "Delhi",
    "Lisboa": "Lisbon",
    "Lissabon": "Lisbon",
    "Lisbonne": "Lisbon",
    "Londres": "London",
    "Ciudad de México": "Mexico City",
    "Москва": "Moscow",
    "Moskau": "Moscow",
    "Bombay": "Mumbai",
    "München": "Munich",
    "New York City": "New York",
    "NYC": "New York",
    "París": "Paris",
    "Praha": "Prague",
    "Prag": "Prague",
    "Reykjavík": "Reykjavik",
    "Roma": "Rome",
    "Rom": "Rome",
    "東京": "Tokyo",
    "Wien": "Vienna",
    "Warszawa": "Warsaw",
    "Zürich": "Zurich",
}


def _city(row: str) -> City:
    name, country, population, latitude, longitude, temperatures = re.split(r" {2,}", row, maxsplit=5)
    return City(
        name=name,
        country=country,
        population=int(population),
        latitude=float(latitude),
        longitude=float(longitude),
        temperatures_c=tuple(int(temperature) for temperature in temperatures.split()),
    )


CITIES: Final = tuple(_city(row) for row in _TABLE.splitlines())


def plain(text: str) -> str:
    """Text without accents and case, to compare by: `São` and `sao` are the same."""
    decomposed = unicodedata.normalize("NFKD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


_NAMES: Final = {city.name: city for city in CITIES} | {
    other: next(city for city in CITIES if city.name == name) for other, name in _OTHER_NAMES.items()
}
_BY_NAME: Final = {plain(name): city for name, city in _NAMES.items()}
_SPELLINGS: Final = {*_BY_NAME, *_NAMES}
_MENTION: Final = re.compile(
    r"(?<!\w)(?:" + "|".join(map(re.escape, sorted(_SPELLINGS, key=len, reverse=True))) + r")(?!\w)",
    re.IGNORECASE,
)


def find_city(name: str) -> City:
    """The city of a name, however it is written. Raises UnknownCityError."""
    key = " ".join(plain(name).split())
    if key in _BY_NAME:
        return _BY_NAME[key]
    close = difflib.get_close_matches(key[:40], _BY_NAME, n=1, cutoff=0.75)
    hint = f"did you mean {_BY_NAME[close[0]].name}?" if close else f"it has {len(CITIES)} large cities"
    raise UnknownCityError(f"the table has no city {name.strip()[:40]!r}; {hint}")


def mentions(text: str) -> Iterator[tuple[int, str]]:
    """The cities that a text names, in its order: where, and the city's own name."""
    for found in _MENTION.finditer(text):
        yield found.start(), _BY_NAME[plain(found[0])].name


def distance_km(a: City, b: City) -> float:
    """Along the great circle, on a sphere of the Earth's mean radius: right to about 0.5 %."""
    phi_a, phi_b = math.radians(a.latitude), math.radians(b.latitude)
    turn = math.radians(b.longitude - a.longitude)
    half = math.sin((phi_b - phi_a) / 2) ** 2 + math.cos(phi_a) * math.cos(phi_b) * math.sin(turn / 2) ** 2
    return 2 * _EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, half)))
