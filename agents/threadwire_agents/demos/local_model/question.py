"""What a message asks for, found by patterns: its topics, places, numbers and names.

It knows nothing of tools or of the conversation, but for `Question.after`: what a short message
such as `And in Rome?` means after the one before it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

from ..cities import MONTHS, mentions

MAX_LENGTH: Final = 2000
"""Characters of a message that are read; a question is at its beginning or its end."""
MAX_PLACES: Final = 5


class Topic(Enum):
    GREETING = auto()
    THANKS = auto()
    GOODBYE = auto()
    HELP = auto()
    IDENTITY = auto()
    WEATHER = auto()
    DISTANCE = auto()
    FACTS = auto()
    POSTCARD = auto()
    SUM = auto()


@dataclass(frozen=True)
class Sum:
    """Arithmetic on a value that a tool returns: `{} * 15 / 100` is `15 % of that`."""

    words: str
    expression: str


@dataclass(frozen=True)
class Speed:
    words: str
    kmh: float


@dataclass(frozen=True)
class Postcard:
    """`to` and `text` are None where the message doesn't say; `text` may be left to the model."""

    to: str | None
    text: str | None


@dataclass(frozen=True)
class Question:
    """`months` are numbers from 1; `expressions` are arithmetic that stands in the message itself."""

    text: str
    topics: frozenset[Topic] = frozenset()
    places: tuple[str, ...] = ()
    months: tuple[int, ...] = ()
    sums: tuple[Sum, ...] = ()
    expressions: tuple[str, ...] = ()
    speed: Speed | None = None
    miles: bool = False
    fahrenheit: bool = False
    postcard: Postcard = Postcard(None, None)
    english: bool = True

    def after(self, before: Question) -> Question:
        """What it means as the next message after `before`."""
        if _TO_SOMEBODY.fullmatch(self.text) and Topic.POSTCARD in before.topics:
            return replace(before, postcard=replace(before.postcard, to=_recipient(self.text)))
        if self._continues:
            moved = bool(self.places or self.months)
            return replace(
                self,
                topics=before.topics - {Topic.SUM},
                places=self._places_after(before),
                months=self.months or before.months,
                sums=self.sums or (before.sums if moved else ()),
                speed=self.speed or (before.speed if moved else None),
                postcard=before.postcard,
            )
        if not self.places and self.topics & _ABOUT_PLACES and _THERE.search(self.text):
            return replace(self, places=before.places)
        return self

    @property
    def how_long(self) -> bool:
        """Whether it asks how long something takes."""
        return bool(_HOW_LONG.search(self.text))

    @property
    def _continues(self) -> bool:
        """Whether it says something new about the subject before, without naming that."""
        news = self.places or self.months or self.sums or self.speed or self.miles or self.fahrenheit
        alone = not self.topics and not self.places and len(self.text) <= 60
        follows = self.topics <= {Topic.SUM, Topic.FACTS} and _FOLLOW_UP.match(self.text)
        return bool(news and (alone or follows))

    def _places_after(self, before: Question) -> tuple[str, ...]:
        if len(self.places) == 1 and Topic.DISTANCE in before.topics and before.places:
            return (before.places[0], *self.places)
        return self.places or before.places


_WORDS: Final = {
    Topic.GREETING: r"^(?:hi|hello|hey|good (?:morning|afternoon|evening)|greetings|howdy)\b",
    Topic.THANKS: r"\b(?:thanks|thank you|thx|cheers)\b",
    Topic.GOODBYE: r"\b(?:bye|goodbye|see you|good night)\b",
    Topic.HELP: r"\b(?:help|what can (?:you|i|this)|what do you do|how does this work|examples?)\b",
    Topic.IDENTITY: (
        r"\b(?:who|what) are you\b|\bare you (?:a |an |really |just )*"
        r"(?:real|human|person|bot|robot|ai|llm|machine|(?:language )?model|chatgpt|gpt\S*|alive)\b"
        r"|\b(?:which|what) (?:language )?(?:model|llm|ai)\b|\bstand-in\b|\bhow do you work\b|\byour name\b"
    ),
    Topic.WEATHER: (
        r"\b(?:weather|temperatures?|climate|forecast|warm(?:er)?|cold(?:er)?|hot(?:ter)?|rain\w*|sunny"
        r"|wetter|tiempo|clima|météo|meteo|tempo|temperatura)\b"
    ),
    Topic.DISTANCE: (
        r"\b(?:how far|distance|far (?:is|from|away)|how long|travel\w*|trip|drive|flight|journey)\b"
    ),
    Topic.FACTS: (
        r"\b(?:population|people|inhabitants|country|where(?: is|'s|’s)|coordinates|tell me (?:more )?about"
        r"|look up|big(?:ger|gest)?|larger?|largest|small(?:er|est)?|compare|facts?|lives?|what about)\b"
    ),
    Topic.POSTCARD: r"\b(?:post ?cards?|(?:send|write)\b.{0,40}\bcard)\b",
}  # fmt: skip
_PATTERNS: Final = {topic: re.compile(words, re.IGNORECASE) for topic, words in _WORDS.items()}
_ABOUT_PLACES: Final = frozenset({Topic.WEATHER, Topic.DISTANCE, Topic.FACTS})

_FOLLOW_UP: Final = re.compile(r"(?:and|or|what about|how about|in|for|from)\b", re.IGNORECASE)
_THERE: Final = re.compile(r"\b(?:there|it|its|that city|this city|they)\b", re.IGNORECASE)
_TO_SOMEBODY: Final = re.compile(r"(?:please )?(?:send it )?to [^\n?]{1,60}", re.IGNORECASE)

_MONTH: Final = re.compile(
    rf"\b(?:{'|'.join(MONTHS)}|(?:jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec)\b)", re.IGNORECASE
)
_MODAL_MAY: Final = re.compile(r"(?<!in )(?<!of )(?<!for )(?<!\d )\bmay\b", re.IGNORECASE)

_NAMED: Final = re.compile(
    r"\b(?:in|of|from|to|about|for|between|and|is|near)\s+([A-Z][\w’'-]+(?:\s[A-Z][\w’'-]+)*)"
)
_NAMED_LOWER: Final = re.compile(r"\b(?:in|from|to)\s+([^\W\d_][\w’'-]{2,})", re.IGNORECASE)
_NO_PLACES: Final = """
the this that these those they there celsius fahrenheit kelvin degrees hours hour minutes days day km
kilometres kilometers miles mile winter summer spring autumn general total euros what how which who why
when where get travel go your you use send know mph today tomorrow january february march april may june
july august september october november december
"""
_NO_PLACE: Final = frozenset(_NO_PLACES.split())

_NUMBER: Final = r"(\d{1,12}(?:\.\d{1,6})?)"
_REFERENT: Final = r"(?:the|this|that|it|its|their)\b"
_PERCENT_OF_IT: Final = re.compile(rf"{_NUMBER}\s*(?:%|percent|per cent)\s+of\s+{_REFERENT}", re.IGNORECASE)
_SHARES: Final = {
    "half": "{} / 2",
    "a third": "{} / 3",
    "one third": "{} / 3",
    "a quarter": "{} / 4",
    "twice": "{} * 2",
    "double": "{} * 2",
    "three times": "{} * 3",
}
_SHARE: Final = re.compile(rf"\b({'|'.join(_SHARES)})\s+(?:of\s+)?{_REFERENT}", re.IGNORECASE)
_PERCENT_OF: Final = re.compile(rf"{_NUMBER}\s*(?:%|percent|per cent)\s+of\s+{_NUMBER}", re.IGNORECASE)
_OPERATOR_WORDS: Final = (
    (re.compile(r"\bdivided by\b|\bover\b(?=\s*\d)", re.IGNORECASE), "/"),
    (re.compile(r"\btimes\b|\bmultiplied by\b|(?<=\d)\s*x\s*(?=\d)", re.IGNORECASE), "*"),
    (re.compile(r"\bplus\b", re.IGNORECASE), "+"),
    (re.compile(r"\bminus\b", re.IGNORECASE), "-"),
    (re.compile(r"\b(?:to the power of|to the)\b(?=\s*\d)", re.IGNORECASE), "**"),
    (re.compile(r"\bsquared\b", re.IGNORECASE), "**2"),
    (re.compile(r"\b(?:the )?square root of\s*(\d[\d.]*)", re.IGNORECASE), r"sqrt(\1)"),
    (re.compile(r"(?<=\d),(?=\d{3}(?!\d))"), ""),
)
_FUNCTION: Final = r"(?:sqrt|abs|round|floor|ceil|log2|log|ln|exp|sin|cos|tan|min|max|pi)"
_EXPRESSION: Final = re.compile(
    rf"(?:{_FUNCTION}\b|[\d(.+\-−])(?:{_FUNCTION}\b|[\d\s.,()+\-*/^×÷−·%]|(?<=\d)e(?=[+-]?\d))*"
)
_CALCULATION: Final = re.compile(
    rf"{_FUNCTION}\s*\(|[\d)\s][-+*/^×÷−·]\s*[\d(a-z.]|\d\s*%\s*\d|[*/^]", re.IGNORECASE
)
_OUTER: Final = re.compile(r"^\(([^()]*)\)$")
_DATE: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}|(?<!\d)\+?\d{2,4}(?:-\d{2,4}){2,}"
)

_SPEED: Final = re.compile(
    rf"{_NUMBER}\s*(km/h|kmh|kph|km per hour|kilomet(?:er|re)s per hour|mph|miles per hour)", re.IGNORECASE
)
_TYPICAL_KMH: Final = {
    "train": 120.0, "car": 90.0, "drive": 90.0, "bus": 75.0, "plane": 800.0, "fly": 800.0, "flight": 800.0,
    "bike": 18.0, "cycle": 18.0, "bicycle": 18.0, "foot": 5.0, "walk": 5.0, "ship": 35.0,
}  # fmt: skip
_VEHICLE: Final = re.compile(rf"\b({'|'.join(_TYPICAL_KMH)})\b", re.IGNORECASE)
_HOW_LONG: Final = re.compile(r"\bhow (?:long|many hours)\b", re.IGNORECASE)
_DURATION: Final = re.compile(r"\bhow long\b|\bhours?\b|\bminutes?\b|\btake\b|\bat \d", re.IGNORECASE)
_KM_PER_MILE: Final = 1.609344

_QUOTED: Final = re.compile(r"[\"“„«]([^\"”“»]{1,500})[\"”“»]|(?:^|\s)['‘]([^\n]{1,500}?)['’](?=\W|$)")
_SAYING: Final = re.compile(
    r"\b(?:saying|that says|which says|with the text|to say)\b[:\s]*(.{1,500})", re.IGNORECASE | re.DOTALL
)
_PERSON: Final = r"((?:my|our)\s+[\w’'-]+|[A-Z][\w’'.-]*(?:\s+[A-Z][\w’'.-]*)*|[a-z][\w’'-]*(?=[\s.!?]*$))"
_TO: Final = re.compile(rf"\b(?:[Tt]o|[Ff]or)\s+{_PERSON}")
_SEND_PERSON: Final = re.compile(
    r"\b(?:send|write)\s+((?!me\b)[^\W\d_][\w’'.-]*(?:\s[^\W\d_][\w’'.-]*)?)\s+(?:a|the|another|one)\b",
    re.IGNORECASE,
)

_ENGLISH_TEXT: Final = """
a an and are can do for from hello hi how i in is it me my of on please tell the there this to what where
which who why with you your
"""
_ENGLISH: Final = frozenset(_ENGLISH_TEXT.split())


def read(text: str) -> Question:
    """What a message asks for. Of a very long one, the beginning and the end are read."""
    if len(text) > MAX_LENGTH:
        text = text[: MAX_LENGTH // 2] + "\n" + text[-MAX_LENGTH // 2 :]
    text = unicodedata.normalize("NFC", text).strip()
    topics = {topic for topic, pattern in _PATTERNS.items() if pattern.search(text)}
    postcard = Postcard(None, None)
    rest = text
    if Topic.POSTCARD in topics:
        words = _said(text)
        rest = text.replace(words, " ") if words else text
        postcard = Postcard(_recipient(rest), words)
        topics = {topic for topic, pattern in _PATTERNS.items() if pattern.search(rest)} | {Topic.POSTCARD}
        if postcard.to:
            rest = rest.replace(postcard.to, " ", 1)
    expressions = _expressions(rest)
    if expressions:
        topics.add(Topic.SUM)
    places = _places(rest, guess=bool(topics & _ABOUT_PLACES))
    if (
        len(places) > 1
        and re.search(r"\bfrom\b.+\bto\b", rest, re.IGNORECASE | re.DOTALL)
        and not topics & _ABOUT_PLACES
    ):
        topics.add(Topic.DISTANCE)
    return Question(
        text=text,
        topics=frozenset(topics),
        places=places,
        months=_months(rest),
        sums=_sums(rest),
        expressions=expressions,
        speed=_speed(rest),
        miles=bool(re.search(r"\b(?:in|many) miles\b", rest, re.IGNORECASE)),
        fahrenheit=bool(re.search(r"\bfahrenheit\b|°\s?F\b", rest, re.IGNORECASE)),
        postcard=postcard,
        english=_is_english(text),
    )


def _places(text: str, *, guess: bool) -> tuple[str, ...]:
    """The cities of the table that are named; with `guess`, also what looks like the name of one."""
    found = dict(mentions(text))
    if guess:
        known = " ".join(found.values())
        patterns = (_NAMED,) if found else (_NAMED, _NAMED_LOWER)
        for pattern in patterns:
            for match in pattern.finditer(text):
                covered = any(match.start(1) <= start < match.end(1) for start in found)
                name = match[1].removesuffix("'s").removesuffix("’s")
                if not covered and name.lower() not in _NO_PLACE and name not in known:
                    found[match.start(1)] = name
    ordered = dict.fromkeys(found[start] for start in sorted(found))
    return tuple(ordered)[:MAX_PLACES]


def _months(text: str) -> tuple[int, ...]:
    text = _MODAL_MAY.sub("", text)
    starts = [month[:3].lower() for month in MONTHS]
    found = (starts.index(match[0][:3].lower()) + 1 for match in _MONTH.finditer(text))
    return tuple(dict.fromkeys(found))


def _sums(text: str) -> tuple[Sum, ...]:
    found = {
        match.start(): Sum(f"{match[1]} % of that", f"{{}} * {match[1]} / 100")
        for match in _PERCENT_OF_IT.finditer(text)
    }
    for match in _SHARE.finditer(text):
        share = match[1].lower()
        of = "that" if share in ("twice", "double", "three times") else "of that"
        found[match.start()] = Sum(f"{share} {of}", _SHARES[share])
    return tuple(found[start] for start in sorted(found))


def _expressions(text: str) -> tuple[str, ...]:
    found: list[str] = []
    for other in (_DATE, _SPEED, _PERCENT_OF_IT):
        text = other.sub(" ; ", text)
    text = _PERCENT_OF.sub(r"(\2 * \1 / 100)", text)
    for pattern, written in _OPERATOR_WORDS:
        text = pattern.sub(written, text)
    for match in _EXPRESSION.finditer(text):
        expression = " ".join(match[0].split()).rstrip("., %").strip()
        if any(character.isdigit() for character in expression) and _CALCULATION.search(expression):
            found.append(_OUTER.sub(r"\1", expression))
    return tuple(dict.fromkeys(found))[:5]


def _speed(text: str) -> Speed | None:
    stated = _SPEED.search(text)
    if stated:
        number = float(stated[1])
        kmh = number * _KM_PER_MILE if stated[2].lower().startswith("m") else number
        return Speed(stated[0], kmh) if kmh > 0 else None
    vehicle = _VEHICLE.search(text)
    if vehicle and _DURATION.search(text):
        kmh = _TYPICAL_KMH[vehicle[1].lower()]
        return Speed(f"a typical {kmh:g} km/h", kmh)
    return None


def _said(text: str) -> str | None:
    """The words that are to stand on the postcard."""
    quoted = _QUOTED.search(text)
    if quoted:
        return (quoted[1] or quoted[2]).strip() or None
    saying = _SAYING.search(text)
    return saying[1].strip() or None if saying else None


def _recipient(text: str) -> str | None:
    match = _SEND_PERSON.search(text) or _TO.search(text)
    if match is None or match[1].lower() in _NO_PLACE | {"me", "a", "an"}:
        return None
    return match[1].strip(" .’'")[:60]


def _is_english(text: str) -> bool:
    """Whether it may be: short texts of Latin letters count as English."""
    letters = [character for character in text if character.isalpha()]
    if letters and sum(character.isascii() for character in letters) < 0.8 * len(letters):
        return False
    words = re.findall(r"[^\W\d_]+", text.lower())
    return len(words) < 3 or not _ENGLISH.isdisjoint(words)
