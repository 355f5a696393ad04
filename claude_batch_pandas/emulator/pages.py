"""Things with ids on a shelf, and the API's way of paging through them, newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from claude_batch_pandas.emulator.errors import RefusedError

_MAX_LIMIT = 1_000
_DEFAULT_LIMIT = 20


class Named(Protocol):
    """What can stand on a shelf."""

    @property
    def id(self) -> str:
        """The name it is asked for by."""


Item = TypeVar("Item", bound=Named)


class Cursor(NamedTuple):
    """Which page is asked for."""

    limit: int
    after: str | None
    before: str | None


def read_cursor(query: Mapping[str, str], *, lenient: bool = False) -> Cursor:
    """Read a list's query; `lenient` takes both cursors at once and uses `after_id`."""
    limit = _limit(query.get("limit"))
    after, before = query.get("after_id") or None, query.get("before_id") or None
    if after and before:
        if not lenient:
            raise RefusedError(400, "after_id and before_id cannot be used together")
        before = None
    return Cursor(limit, after, before)


def _limit(text: str | None) -> int:
    if text is None:
        return _DEFAULT_LIMIT
    try:
        limit = int(text)
    except ValueError:
        raise RefusedError(400, f"limit: Input should be a valid integer, not {text!r}") from None
    if not 1 <= limit <= _MAX_LIMIT:
        raise RefusedError(400, f"limit: Input should be between 1 and {_MAX_LIMIT}, not {limit}")
    return limit


class Shelf(Generic[Item]):
    """Items in the order they came, found by id at once, however many there are.

    Parameters
    ----------
    kind : str
        What the items are called in errors.
    items : iterable
        The first ones, oldest first.
    """

    def __init__(self, kind: str, items: Iterable[Item] = ()) -> None:
        self._kind = kind
        self._items: list[Item] = []
        self._positions: dict[str, int] = {}
        for item in items:
            self.add(item)

    def add(self, item: Item) -> None:
        """Put the newest item on the shelf."""
        self._positions[item.id] = len(self._items)
        self._items.append(item)

    def get(self, item_id: str) -> Item | None:
        """Return an item; None when it is not there."""
        position = self._positions.get(item_id)
        return None if position is None else self._items[position]

    def page(
        self, cursor: Cursor, shown: Callable[[Item], bool], *, lenient: bool = False
    ) -> tuple[list[Item], bool]:
        """Return a page, newest first, and whether there is more in its direction.

        `lenient` ignores a cursor that names nothing; else that is refused.
        """
        after = self._position("after_id", cursor.after, shown, lenient=lenient)
        before = self._position("before_id", cursor.before, shown, lenient=lenient)
        if before is not None:
            # The page next to the cursor, on its newer side, and still newest first.
            found = self._take(range(before + 1, len(self._items)), shown, cursor.limit)
            return found[: cursor.limit][::-1], len(found) > cursor.limit
        newest = len(self._items) if after is None else after
        found = self._take(range(newest - 1, -1, -1), shown, cursor.limit)
        return found[: cursor.limit], len(found) > cursor.limit

    def _take(self, positions: range, shown: Callable[[Item], bool], limit: int) -> list[Item]:
        """Return the first items that are shown, and one more, which tells that there is more."""
        items: Iterator[Item] = (self._items[position] for position in positions)
        return list(islice(filter(shown, items), limit + 1))

    def _position(
        self, name: str, item_id: str | None, shown: Callable[[Item], bool], *, lenient: bool
    ) -> int | None:
        if item_id is None:
            return None
        position = self._positions.get(item_id)
        if position is not None and shown(self._items[position]):
            return position
        if lenient:
            return None
        raise RefusedError(400, f"{name}: no {self._kind} {item_id!r}")


def listing(data: list[dict[str, Any]], *, more: bool) -> dict[str, Any]:
    """Return the body of a list."""
    return {
        "data": data,
        "has_more": more,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
    }
