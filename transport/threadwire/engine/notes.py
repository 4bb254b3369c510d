"""What an agent notes down about a thread for itself: durable, and never seen by clients.

A note becomes durable together with the update that is cut next, so that notes and state can't
disagree after a crash.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping

import msgspec

from ..core.operations import Json


class Notes(MutableMapping[str, Json]):
    """JSON values by name. What was read is the reader's own: only assigning changes a note.

    Raises RunEnded on changes after the run has ended.
    """

    def __init__(
        self,
        stored: dict[str, bytes],
        *,
        check: Callable[[], None],
        changed: Callable[[str, bytes | None], None],
    ) -> None:
        self._stored = stored
        self._check = check
        self._changed = changed

    def __getitem__(self, name: str) -> Json:
        return msgspec.json.decode(self._stored[name])

    def __setitem__(self, name: str, value: Json) -> None:
        self._check()
        data = msgspec.json.encode(value)
        if self._stored.get(name) != data:
            self._stored[name] = data
            self._changed(name, data)

    def __delitem__(self, name: str) -> None:
        self._check()
        del self._stored[name]
        self._changed(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._stored

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._stored))

    def __len__(self) -> int:
        return len(self._stored)
