"""What varies by row beside text: the value of a column, as a parameter or as all messages. Pure."""

from __future__ import annotations

import json
import numbers
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.rendered import Reason

ROLES = frozenset({"user", "assistant", "system"})
MESSAGES = "messages"  # the parameter that holds the conversation


class UnfitError(InputError):
    """A cell cannot be sent; the row is invalid, and the others are not."""


@dataclass(frozen=True, slots=True)
class Column:
    """The value of a column, where a parameter or the whole template is expected.

    Attributes
    ----------
    column : str
    """

    column: str

    def __repr__(self) -> str:
        return f"col({self.column!r})"


@dataclass(frozen=True, slots=True)
class History:
    """What was said before in the conversation of each row.

    Attributes
    ----------
    said : sequence of (bytes or Reason)
        By the row's position: messages as JSON, with commas between; or why the row has none.
    """

    said: Sequence[bytes | Reason]
    column: None = None  # like its siblings; it reads none


def col(name: str) -> Column:
    """Take a parameter, or the whole conversation, from a column.

    Parameters
    ----------
    name : str
        Of the column. As the template, its cells are lists of messages, or the JSON of one.

    Returns
    -------
    Column
        For ``model=``, ``max_tokens=``, ``template=``, or anywhere in ``params=``.

    Raises
    ------
    InputError
        When it is no name.

    Examples
    --------
    >>> import claude_batch_pandas as cbp
    >>> cbp.col("limit")
    col('limit')
    """
    given: Any = name
    if not isinstance(given, str) or not given:
        msg = f"col() takes the name of a column, not {given!r}."
        raise InputError(msg)
    return Column(name)


def encode_value(name: str, cell: Any) -> tuple[Any, bytes]:
    """Return what a cell is as a parameter, plain and as JSON.

    Parameters
    ----------
    name : str
        Of the parameter it is, or is a part of.
    cell : object

    Raises
    ------
    UnfitError
    """
    value = _plain(cell)
    if name == MESSAGES:
        value = _conversation(value)
    elif name == "max_tokens":
        value = _whole(value)
    elif name == "model" and (not isinstance(value, str) or not value.strip()):
        msg = f"model must be a name such as 'claude-haiku-5-5', not {_kind(value)}."
        raise UnfitError(msg)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return value, text.encode()
    except UnicodeEncodeError:
        msg = "it holds a lone surrogate, which UTF-8 cannot encode."
    except (TypeError, ValueError, RecursionError):
        msg = f"{_kind(value)} cannot be sent as JSON; use plain numbers, text, lists and dicts."
    raise UnfitError(msg)


def _plain(cell: Any) -> Any:
    """Return a cell with arrays as lists: what Parquet holds as lists comes back as arrays."""
    if hasattr(cell, "tolist") and not isinstance(cell, str | bytes):
        cell = cell.tolist()
    if isinstance(cell, list | tuple):
        return [_plain(item) for item in cell]
    if isinstance(cell, Mapping):
        return {name: _plain(item) for name, item in cell.items()}
    return cell


def _whole(value: Any) -> int:
    is_float = isinstance(value, float) and value.is_integer()
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if (is_whole or is_float) and value >= 1:
        return int(value)
    shown = value if isinstance(value, numbers.Real) else _kind(value)
    msg = f"max_tokens must be a whole number of at least 1, not {shown}."
    raise UnfitError(msg)


def _conversation(value: Any) -> list[Any]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            msg = "it holds text that is no JSON list of messages."
            raise UnfitError(msg) from None
    try:
        check_messages(value)
    except UnfitError:
        raise
    except InputError as error:
        raise UnfitError(str(error)) from None
    if not any(text.strip() for text in texts_of(value)) and not _has_other_blocks(value):
        msg = "its messages are empty."
        raise UnfitError(msg)
    return list(value)


def check_messages(messages: Any) -> None:
    """Refuse what is no conversation.

    Raises
    ------
    InputError
    """
    if not isinstance(messages, list | tuple) or not messages:
        msg = "it has no messages. Return at least one."
        raise InputError(msg)
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not {"role", "content"} <= message.keys():
            msg = f'message {i} is not {{"role": ..., "content": ...}}.'
            raise InputError(msg)
        if not isinstance(message["role"], str) or message["role"] not in ROLES:
            msg = f"message {i} has the role {message['role']!r}; use 'user' or 'assistant'."
            raise InputError(msg)
        content = message["content"]
        is_blocks = isinstance(content, list | tuple) and len(content) > 0
        if not isinstance(content, str) and not is_blocks:
            msg = f"the content of message {i} is neither text nor a list of blocks."
            raise InputError(msg)


def texts_of(messages: Any) -> Iterator[str]:
    """Yield the texts of a conversation."""
    for message in messages:
        content = message["content"]
        if isinstance(content, str):
            yield content
            continue
        for block in content:
            if isinstance(block, Mapping) and isinstance(block.get("text"), str):
                yield block["text"]


def _has_other_blocks(messages: Any) -> bool:
    contents = [message["content"] for message in messages]
    return any(
        isinstance(block, Mapping) and block.get("type") != "text"
        for content in contents
        if not isinstance(content, str)
        for block in content
    )


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"


def media_in(part: Any, kinds: Collection[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the kind and the source of every block of some kinds in a request, however deep."""
    if isinstance(part, Mapping):
        if part.get("type") in kinds and isinstance(part.get("source"), Mapping):
            yield part["type"], part["source"]
        for value in part.values():
            yield from media_in(value, kinds)
    elif isinstance(part, list):
        for value in part:
            yield from media_in(value, kinds)
