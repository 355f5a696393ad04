"""Rows -> encoded requests: params, content hash, custom_id, bytes.

The constant parts of a request are encoded once; per row only the rendered texts are quoted and
spliced in. The bytes of a request's params depend on nothing but the params, so that their hash
tells whether the same question was asked before.

A custom_id is ``<nonce 16 hex>-<attempt 2>-<ordinal 8>-<hash 16 hex>``: which run, which attempt,
which request of the run, and what was asked. It holds no row data.
"""

from __future__ import annotations

import hashlib
import json
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.slots import Column
from claude_batch_pandas.templates import Prompt, Slot, Text, slots_in

CUSTOM_ID = re.compile(rb"([0-9a-f]{16})-([0-9]{2})-([0-9]{8})-([0-9a-f]{16})")
LEGAL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what the API takes as a custom_id
DIGEST_SIZE = 16  # bytes of SHA-256 that identify a request; 2**-128 is never by chance
HASH_SIZE = 16  # hex digits of it that stand in a custom_id
MAX_ATTEMPTS = 99  # what two digits hold
MAX_REQUESTS = 99_999_999  # what eight digits hold

ID_SIZE = 45  # characters of a custom_id
ORDINAL = slice(20, 28)  # where the ordinal stands in a custom_id

ID_HEAD = b'{"custom_id":"'
ID_TAIL = b'","params":'
LINE_END = b"}"
LINE_FRAME = len(ID_HEAD) + ID_SIZE + len(ID_TAIL) + len(LINE_END)  # of a line, beside its params


class Encoded(NamedTuple):
    """Encoded requests, one item per row in both lists; None for a row that is not UTF-8."""

    tails: list[bytes | None]  # the params after the constant head
    digests: list[bytes | None]  # content hashes


class Place(NamedTuple):
    """Where in a request something varies: in which parameter, and by what."""

    param: str
    slot: Slot


class Encoder:
    """Encodes the requests of one run.

    Parameters
    ----------
    params : mapping
        Every Messages parameter but `messages` and `system`; a `Column` stands for what varies.
    prompt : Prompt
    betas : sequence of str
        The ``anthropic-beta`` header; part of the content hash, since it changes the answer.

    Attributes
    ----------
    head : bytes
        What the params of every request begin with.
    places : list of Place
        What varies, in the order of the bytes.

    Raises
    ------
    InputError
        When a parameter cannot be written as JSON.
    """

    def __init__(
        self, params: Mapping[str, Any], prompt: Prompt, betas: Sequence[str] = ()
    ) -> None:
        whole = _whole(params, prompt)
        pieces = _splice(whole)
        self.places = [Place(name, slot) for name, value in whole for slot in slots_in(value)]
        self._is_text = [isinstance(place.slot, Text) for place in self.places]
        self.head = pieces[0]
        self._gaps = pieces[1:]
        # The bytes before the first varying text are hashed once; a copy goes on per row.
        self._hash = hashlib.sha256(self.head)
        self._betas = _beta_bytes(betas)

    def encode(self, parts: Sequence[Sequence[Any]]) -> Encoded:
        """Encode one request per row.

        Parameters
        ----------
        parts : sequence of sequence
            What stands in each of the `places`, all of one length: rendered texts (str) in that of
            a `Text`, else JSON (bytes).
        """
        try:
            tails: list[bytes | None] = [*self._splice(*self._quoted(parts))]
        except TypeError:  # a lone surrogate; find the rows that have one
            tails = [self._splice_one(row) for row in zip(*parts, strict=True)]
        return Encoded(tails, self._digests(tails))

    def _quoted(self, parts: Sequence[Sequence[Any]]) -> list[Iterable[bytes]]:
        return [
            map(orjson.dumps, part) if is_text else part
            for part, is_text in zip(parts, self._is_text, strict=True)
        ]

    def constant(self) -> Encoded:
        """Encode the one request of a prompt without varying texts."""
        return Encoded([b""], self._digests([b""]))

    def _splice(self, *quoted: Iterable[bytes]) -> Iterable[bytes]:
        if len(quoted) == 1:
            end = self._gaps[0]
            return [text + end for text in quoted[0]]
        # The gaps vary in nothing, so each row is its texts poured into one bytes pattern.
        pattern = b"".join(b"%b" + gap.replace(b"%", b"%%") for gap in self._gaps)
        return [pattern % row for row in zip(*quoted, strict=True)]

    def _splice_one(self, row: Sequence[Any]) -> bytes | None:
        try:
            (tail,) = self._splice(*self._quoted([[part] for part in row]))
        except TypeError:
            return None
        return tail

    def _digests(self, tails: Sequence[bytes | None]) -> list[bytes | None]:
        return _digests(self._hash, tails, self._betas)


class WholeEncoder:
    """Encodes requests that have nothing in common; the same request gives the same bytes.

    Parameters
    ----------
    betas : sequence of str
        As for `Encoder`.
    """

    def __init__(self, betas: Sequence[str] = ()) -> None:
        self._betas = _beta_bytes(betas)

    def encode(self, params: Mapping[str, Any]) -> bytes:
        """Return the bytes of the params of one request.

        Raises
        ------
        InputError
            For a value that JSON cannot hold.
        UnicodeEncodeError
            For a text that is not UTF-8.
        """
        try:
            return _json(dict(_ordered(params))).encode()
        except UnicodeEncodeError:
            raise
        except (TypeError, ValueError, RecursionError) as error:
            msg = f"it cannot be sent as JSON ({error}); use plain numbers, text, lists and dicts."
            raise InputError(msg) from None

    def digests(self, tails: Sequence[bytes | None]) -> list[bytes | None]:
        """Return the content hash of each."""
        return _digests(hashlib.sha256(), tails, self._betas)


def _digests(start: Any, tails: Sequence[bytes | None], end: bytes) -> list[bytes | None]:
    # The longest loop of a run: one copy of the half-done hash per row, nothing else.
    copy = start.copy
    digests: list[bytes | None] = []
    for tail in tails:
        if tail is None:
            digests.append(None)
            continue
        content = copy()
        content.update(tail + end if end else tail)
        digests.append(content.digest()[:DIGEST_SIZE])
    return digests


def _beta_bytes(betas: Sequence[str]) -> bytes:
    return b"\nanthropic-beta:" + ",".join(betas).encode() if betas else b""


def custom_id(nonce: str, attempt: int, ordinal: int, digest: bytes) -> bytes:
    """Return the custom_id of one request of one attempt; always 45 bytes."""
    return b"%s-%02d-%08d-%s" % (
        nonce.encode(),
        attempt,
        ordinal,
        digest.hex()[:HASH_SIZE].encode(),
    )


def custom_ids(
    nonce: str, attempt: int, ordinals: Iterable[int], hashes: Iterable[str]
) -> list[str]:
    """Return the custom_ids of many requests of one attempt.

    Parameters
    ----------
    nonce : str
    attempt : int
    ordinals : iterable of int
    hashes : iterable of str
        The last part of each custom_id.
    """
    prefix = id_prefix(nonce, attempt).decode()
    return [f"{prefix}{i:08d}-{part}" for i, part in zip(ordinals, hashes, strict=True)]


def params_of(line: bytes) -> bytes:
    """Return the params of a request line, as JSON."""
    return line[line.index(ID_TAIL) + len(ID_TAIL) : -1]


def id_of(line: bytes) -> str:
    """Return the custom_id of a request line."""
    return line[len(ID_HEAD) : line.index(ID_TAIL)].decode()


def with_turn(line: bytes, content: Sequence[Any]) -> bytes:
    """Return a request line that goes on after a turn that the model did not finish.

    Parameters
    ----------
    line : bytes
    content : sequence of dict
        The blocks of that turn, as they came.
    """
    whole = json.loads(line)
    messages = whole["params"]["messages"]
    said: list[Any] = []
    if messages[-1]["role"] == "assistant":  # it was begun, or continued before
        before: Any = messages.pop()["content"]
        said = [{"type": "text", "text": before}] if isinstance(before, str) else before
    if said[-len(content) :] != [*content]:  # else the last continuation failed
        said = [*said, *content]
    messages.append({"role": "assistant", "content": said})
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def id_prefix(nonce: str, attempt: int) -> bytes:
    """Return what every custom_id of one attempt of a run begins with."""
    return b"%s-%02d-" % (nonce.encode(), attempt)


def with_attempt(request: bytes, nonce: str, attempt: int) -> bytes:
    """Return a request line with another attempt in its custom_id; its params stay the same."""
    start = len(ID_HEAD) + len(nonce) + 1
    return request[:start] + b"%02d" % attempt + request[start + 2 :]


def with_max_tokens(request: bytes, limit: int) -> bytes:
    """Return a request line whose answer may have more tokens; its custom_id stays the same.

    Raises
    ------
    InputError
        When it could have as many before.
    """
    whole = json.loads(request)  # the standard library keeps integers of any size
    before = whole["params"]["max_tokens"]
    if limit <= before:
        msg = f"max_tokens={limit:,} is not more than the {before:,} that cut answers of this run."
        raise InputError(msg)
    whole["params"]["max_tokens"] = limit
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode()


def check_params(params: Mapping[str, Any], least: int = 1) -> dict[str, Any]:
    """Return the params as a plain dict, or say which one no request can carry.

    Parameters
    ----------
    params : mapping
    least : int
        Tokens that `max_tokens` has at least.

    Raises
    ------
    InputError
        For an impossible `max_tokens`, and for values that JSON cannot hold.
    """
    limit = params.get("max_tokens")
    if isinstance(limit, numbers.Integral) and not isinstance(limit, bool):
        limit = int(limit)  # NumPy's integers are welcome, but JSON has no word for them
        params = {**params, "max_tokens": limit}
    is_count = isinstance(limit, int) and not isinstance(limit, bool) and limit >= least
    if not is_count and not isinstance(limit, Column):
        msg = f"max_tokens must be a whole number of at least 1, not {limit!r}."
        raise InputError(msg)
    model = params.get("model")
    if not isinstance(model, Column) and (not isinstance(model, str) or not model.strip()):
        msg = f"model must be a name such as 'claude-haiku-5-5', not {model!r}."
        raise InputError(msg)
    for name, value in params.items():
        if not isinstance(name, str):
            msg = f"params has the key {name!r}, a {type(name).__name__}; parameters have names, such as 'metadata'."
            raise InputError(msg)
        _emit(name, value, [bytearray()])
    return dict(params)


def _whole(params: Mapping[str, Any], prompt: Prompt) -> list[tuple[str, Any]]:
    """Return all parameters of a request in the order in which they are sent."""
    whole = {**params, "messages": prompt.messages}
    if prompt.system is not None:
        whole["system"] = prompt.system
    return _ordered(whole)


def _splice(whole: Sequence[tuple[str, Any]]) -> list[bytes]:
    """Return the constant bytes between what varies; one more than there are places."""
    pieces = [bytearray(b"{")]
    for i, (name, value) in enumerate(whole):
        pieces[-1] += b"," * (i > 0) + _dump("a parameter name", name) + b":"
        _emit(name, value, pieces)
    pieces[-1] += b"}"
    return [bytes(piece) for piece in pieces]


def _ordered(params: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the parameters in the one order in which they are sent and hashed.

    Top-level order has no meaning to the API, so one order serves every spelling of a call;
    messages come last, where the varying text is. Below the top the user's order stays.
    """
    return sorted(params.items(), key=lambda item: (item[0] == "messages", item[0]))


def _emit(name: str, value: Any, pieces: list[bytearray]) -> None:
    """Append the JSON of a value; what varies ends the piece and begins another."""
    if isinstance(value, Slot):
        pieces.append(bytearray())
    elif isinstance(value, Mapping) and _varies(value):
        pieces[-1] += b"{"
        for i, (key, item) in enumerate(value.items()):
            pieces[-1] += b"," * (i > 0) + _dump(name, str(key)) + b":"
            _emit(name, item, pieces)
        pieces[-1] += b"}"
    elif isinstance(value, list | tuple) and _varies(value):
        pieces[-1] += b"["
        for i, item in enumerate(value):
            pieces[-1] += b"," * (i > 0)
            _emit(name, item, pieces)
        pieces[-1] += b"]"
    else:
        pieces[-1] += _dump(name, value)


def _varies(value: Any) -> bool:
    return next(slots_in(value), None) is not None


def _dump(name: str, value: Any) -> bytes:
    try:
        return _json(value).encode()
    except UnicodeEncodeError:
        msg = f"{name} holds a lone surrogate, which UTF-8 cannot encode; repair the text."
    except (TypeError, ValueError) as error:
        msg = f"{name} cannot be sent as JSON ({error}); use plain numbers, text, lists and dicts."
    raise InputError(msg)


def _json(value: Any) -> str:
    # The standard library refuses what orjson would quietly change: NaN becomes null there.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
