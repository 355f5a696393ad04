"""A file of requests made elsewhere -> what a run is planned from, as of a frame.

Every line is ``{"custom_id": ..., "params": {...}}``, as the API takes them. The file is read twice,
a line at a time: once to find whatever is wrong with it, and once more to send it.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import orjson

from claude_batch_pandas.abilities import shipped
from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.refusals import refusal
from claude_batch_pandas.rendered import Rendered
from claude_batch_pandas.rendering import BLOCK, LARGEST_PARAMS, TOO_LARGE, Know, Recipe
from claude_batch_pandas.requests import LEGAL_ID, WholeEncoder, check_params
from claude_batch_pandas.slots import check_messages, texts_of
from claude_batch_pandas.votes import replica

KEYS = {"custom_id", "params"}
NEEDED = ("model", "max_tokens", "messages")
LONGEST_LINE = LARGEST_PARAMS + 10_000  # bytes; what is longer is read no further
BLOCK_BYTES = 8_000_000  # of requests that are held at once
MAP_SUFFIX = ".ids.jsonl"
FIX = "--fix-ids gives such lines other ids, and writes down which."


class NewId(NamedTuple):
    """A custom_id that the API does not take, or that stands twice, and what takes its place."""

    line: int
    custom_id: Any
    new_id: str


@dataclass(slots=True)
class RequestFile:
    """A file of requests that was read once, and is as the API wants it.

    Parameters
    ----------
    path : Path
    fix_ids : bool
        Give lines another custom_id where theirs is illegal, or stands further up.

    Attributes
    ----------
    ids : list of str
        The custom_id of each request, each once.
    fixed : list of NewId
    model : str
        Of the first request.

    Raises
    ------
    InputError
        For the first line that is no request, by its number.
    """

    path: Path
    fix_ids: bool = False
    ids: list[str] = field(init=False, default_factory=list)
    fixed: list[NewId] = field(init=False, default_factory=list)
    model: str = field(init=False, default="")
    max_tokens: int = field(init=False, default=0)
    names: list[str] = field(init=False, default_factory=list)  # of columns: none
    _stamp: tuple[int, ...] = field(init=False)
    _times: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        """Read the file for the first time."""
        self._stamp = _stamp(self.path)
        given: list[Any] = []
        numbers, hashes = array("I"), array("Q")
        encoder = WholeEncoder()
        for number, line in self.lines():
            try:
                custom_id, params = _parse(line)
                data = _encoded(params, encoder)
            except InputError as error:
                raise InputError(self.at(number, str(error))) from None
            if not given:
                self.model, self.max_tokens = str(params["model"]), int(params["max_tokens"])
            given.append(custom_id)
            numbers.append(number)
            (digest,) = encoder.digests([data])
            hashes.append(int.from_bytes((digest or b"")[:8]))
        if not given:
            msg = f"{self.path} holds no requests."
            raise InputError(msg)
        self._times = _times(np.array(hashes, dtype=np.uint64))
        self._name(given, numbers)

    def __len__(self) -> int:
        return len(self.ids)

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Yield every line that is not empty, with its number from 1.

        Raises
        ------
        InputError
            When the file cannot be read; and at its end, when it is not what it was any more.
        """
        try:
            with self.path.open("rb") as file:
                for number, line in enumerate(iter(lambda: file.readline(LONGEST_LINE), b""), 1):
                    told = line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
                    if told.strip(b" \t\r\n"):
                        yield number, told
        except OSError as error:
            msg = f"{self.path} cannot be read: {error.strerror or error}."
            raise InputError(msg) from None
        if _stamp(self.path) != self._stamp:
            raise self.changed()

    def changed(self) -> InputError:
        """Return what to say when the file is not what it was."""
        return InputError(
            f"{self.path} was changed while it was read. Nothing was sent; ask again."
        )

    def again(self, position: int, digest: bytes) -> bytes:
        """Return the content hash of a request: who asks the same twice wants two answers."""
        return replica(digest, self._times.get(position, 0))

    def write_map(self) -> Path:
        """Write down which custom_ids were replaced, as JSON lines beside the file.

        Raises
        ------
        InputError
            When another map is there, or the file cannot be written.
        """
        path = self.path.with_name(self.path.name + MAP_SUFFIX)
        told = b"".join(orjson.dumps(new._asdict()) + b"\n" for new in self.fixed)
        try:
            if path.exists() and path.read_bytes() != told:
                msg = f"{path} holds the ids of another file. Move it away."
                raise InputError(msg)
            path.write_bytes(told)
        except OSError as error:
            msg = f"{path} cannot be written: {error.strerror or error}."
            raise InputError(msg) from None
        return path

    def at(self, number: int, why: str) -> str:
        """Return what is wrong with a line."""
        return f"Line {number} of {self.path.name}: {why.removesuffix('.')}. Nothing was sent."

    def _name(self, given: Sequence[Any], numbers: Sequence[int]) -> None:
        """Take the custom_ids, or give others, or refuse."""
        first: dict[str, int] = {}
        wrong: list[int] = []
        for position, (custom_id, number) in enumerate(zip(given, numbers, strict=True)):
            why = _why_not(custom_id, first)
            if why and not self.fix_ids:
                raise InputError(self.at(number, f"{why} {FIX}"))
            if why:
                wrong.append(position)
            else:
                first[custom_id] = number
        self.ids = list(given)
        for position in wrong:
            number = numbers[position]
            new = f"line-{number}"
            while new in first:
                new += "-"
            first[new] = number
            self.fixed.append(NewId(number, given[position], new))
            self.ids[position] = new


@dataclass(slots=True)
class FileRenderer:
    """Hands over the requests of one file as they stand there.

    Parameters
    ----------
    source : RequestFile
    recipe : Recipe
    know : callable
        Returns what a model accepts, by its name.
    """

    source: RequestFile
    recipe: Recipe
    know: Know = shipped
    head: bytes = field(init=False, default=b"")
    is_constant: bool = field(init=False, default=False)
    is_uniform: bool = field(init=False, default=False)
    remark: str = field(init=False, default="")
    columns: Sequence[str] = ()

    def holds(self, size: int) -> bool:  # noqa: ARG002 - others ask
        """Tell whether a request may fit the model's window: each may have another model."""
        return True

    def blocks(self, size: int = BLOCK) -> Iterator[Rendered]:
        """Yield the requests in blocks.

        Raises
        ------
        InputError
            For the first line that its model will refuse.
        """
        encoder, tails, start, held = WholeEncoder(), list[bytes](), 0, 0
        for number, line in self.source.lines():
            try:
                params = json.loads(line)["params"]
            except (ValueError, LookupError, TypeError):  # it was right when it was checked
                raise self.source.changed() from None
            why = "" if self.recipe.force else refusal(params, self.know(str(params["model"])))
            if why:
                raise InputError(self.source.at(number, why))
            tails.append(encoder.encode(params))
            held += len(tails[-1])
            if len(tails) == size or held >= BLOCK_BYTES:
                yield self._block(tails, start, encoder)
                start, held, tails = start + len(tails), 0, []
        if tails:
            yield self._block(tails, start, encoder)

    def _block(self, tails: Sequence[bytes], start: int, encoder: WholeEncoder) -> Rendered:
        digests = [
            self.source.again(position, digest or b"")
            for position, digest in enumerate(encoder.digests(tails), start)
        ]
        return Rendered(tails, digests, {})


def as_given(_: object) -> None:
    """Stand for the template of a run whose requests were made elsewhere."""


def _stamp(path: Path) -> tuple[int, ...]:
    """Return what changes when a file is written."""
    try:
        found = path.stat()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror or error}."
        raise InputError(msg) from None
    return found.st_ino, found.st_size, found.st_mtime_ns


def _parse(line: bytes) -> tuple[Any, Mapping[str, Any]]:
    """Return the custom_id and the params of a line.

    Raises
    ------
    InputError
    """
    if len(line) >= LONGEST_LINE:
        msg = f"it has more than {LONGEST_LINE:,} bytes"
        raise InputError(msg)
    try:
        told = json.loads(line.decode())
    except UnicodeDecodeError:
        msg = "it is not UTF-8"
        raise InputError(msg) from None
    except (ValueError, RecursionError) as error:
        msg = f"it is no JSON ({error})"
        raise InputError(msg) from None
    if not isinstance(told, Mapping) or not KEYS.issuperset(told) or "params" not in told:
        keys = list(told)[:9] if isinstance(told, Mapping) else type(told).__name__
        msg = f'it is not {{"custom_id": ..., "params": {{...}}}}, but has {keys}'
        raise InputError(msg)
    params = told["params"]
    if not isinstance(params, Mapping):
        msg = f"its params are no object, but a {type(params).__name__}"
        raise InputError(msg)
    missing = [name for name in NEEDED if name not in params]
    if missing:
        msg = f"its params have no {missing[0]}"
        raise InputError(msg)
    if "betas" in params:
        msg = "its params have betas, which are a header and no parameter"
        raise InputError(msg)
    check_params({name: params[name] for name in ("model", "max_tokens")})
    check_messages(params["messages"])
    if any(not text.strip() for text in texts_of(params["messages"])):
        msg = "a text of its messages is empty, which the API refuses"
        raise InputError(msg)
    return told.get("custom_id"), params


def _encoded(params: Mapping[str, Any], encoder: WholeEncoder) -> bytes:
    try:
        data = encoder.encode(params)
    except (InputError, UnicodeEncodeError):
        check_params(params)  # says which of them it is
        raise
    if len(data) > LARGEST_PARAMS:
        msg = TOO_LARGE.format(len(data))
        raise InputError(msg)
    return data


def _why_not(custom_id: Any, first: Mapping[str, int]) -> str:
    """Return why a line cannot have its custom_id; empty when it can."""
    if not isinstance(custom_id, str) or not LEGAL_ID.fullmatch(custom_id):
        return f"its custom_id {custom_id!r:.80} is not 1 to 64 letters, digits, _ or -."
    if custom_id in first:
        return f"its custom_id {custom_id!r} stands in line {first[custom_id]} already."
    return ""


def _times(hashes: npt.NDArray[np.uint64]) -> dict[int, int]:
    """Return by position how often a request stands further up, where it does."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    is_first = np.r_[True, ordered[1:] != ordered[:-1]]
    starts = np.flatnonzero(is_first)
    counts = np.arange(len(order)) - np.repeat(starts, np.diff(np.r_[starts, len(order)]))
    again = counts > 0
    return dict(zip(order[again].tolist(), counts[again].tolist(), strict=True))
