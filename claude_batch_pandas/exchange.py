"""One HTTP request through the SDK, once, and an answer that ends.

The SDK reads an answer without a limit, that of an error too, and raises exceptions that carry the
key and the whole body. None of them leaves this file, not even as the context of one of ours.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from claude_batch_pandas.exceptions import (
    ENDLESS,
    UNSENT,
    UNUSABLE,
    UNWRITABLE,
    APIError,
    CredentialsError,
)
from claude_batch_pandas.replies import read_error
from claude_batch_pandas.words import plain

if TYPE_CHECKING:
    import anthropic
    import httpx2

MAX_JSON = 32_000_000  # bytes of an answer; a page of a thousand batches is one million
MAX_ERROR = 100_000  # bytes that are read of an error

NO_CREDENTIALS = (
    "No credentials for the Claude API were found. Give one of: the environment variable "
    "ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN; a profile (ANTHROPIC_PROFILE, or the active one "
    "in ~/.config/anthropic); client=anthropic.Anthropic(api_key=...). To try without a key, run "
    "`claude-batch emulate` and set ANTHROPIC_BASE_URL to the address it prints. Nothing was "
    "sent; the same call works once there is one."
)

Answer = TypeVar("Answer")


class Reply(NamedTuple):
    """An answer that was read whole."""

    status: int
    headers: Mapping[str, str]
    content: bytes


def send_once(
    sdk: anthropic.Anthropic, verb: str, path: str, headers: Mapping[str, str], **more: Any
) -> Reply:
    """Make a request whose answer is small, and read it whole.

    Parameters
    ----------
    sdk : anthropic.Anthropic
    verb : {"get", "post", "delete"}
    path : str
    headers : mapping of str to str
    **more
        ``query``, ``content``, ``files`` or ``timeout`` (seconds).

    Raises
    ------
    APIError
    CredentialsError
    """
    response = open_once(sdk, verb, path, headers, **more)
    return Reply(response.status_code, response.headers, _whole(response))


def open_once(
    sdk: anthropic.Anthropic,
    verb: str,
    path: str,
    headers: Mapping[str, str],
    query: Mapping[str, Any] | None = None,
    timeout: float | None = None,
    **more: Any,
) -> httpx2.Response:
    """Make a request; return its answer before its body is read, or raise what it says."""
    import anthropic
    import httpx2

    options = _once(verb, headers)
    if query:
        options["params"] = dict(query)
    if timeout is not None:
        options["timeout"] = timeout
    if verb != "delete":  # with cast_to=Response, no Stream is ever made
        more |= {"stream": True, "stream_cls": anthropic.Stream[Any]}
    send = getattr(sdk.with_middleware(_hand_over), verb)
    response: httpx2.Response = _ask(
        lambda: send(path, cast_to=httpx2.Response, options=options, **more)
    )
    if response.is_success:
        return response
    raise read_error(response.status_code, response.headers, _beginning(response))


def _hand_over(request: Any, call_next: Callable[[Any], Any]) -> Any:
    """Give back the answer as it came: the SDK would read the body of an error to its end."""
    answer = call_next(request)
    return getattr(answer, "http_response", answer)


def _once(verb: str, headers: Mapping[str, str]) -> dict[str, Any]:
    """Return the SDK options of a request that is sent exactly once."""
    fixed = {"Connection": "close", "Accept-Encoding": "identity"}
    if verb == "delete":  # the SDK's word for stream=True, which its delete does not take
        fixed["X-Stainless-Raw-Response"] = "stream"
    return {"headers": {**fixed, **headers}, "max_retries": 0, "follow_redirects": False}


def _whole(response: httpx2.Response) -> bytes:
    """Return the body of an answer, which must not be too long for one of the API."""
    found = bytearray()
    with contextlib.closing(blocks_of(response)) as blocks:
        for block in blocks:
            found += block
            if len(found) > MAX_JSON:
                msg = (
                    f"The server answered {response.status_code} with more than {MAX_JSON:,} "
                    "bytes, which is not the API's JSON. Check what ANTHROPIC_BASE_URL leads to."
                )
                raise APIError(msg)
    return bytes(found)


def _beginning(response: httpx2.Response) -> bytes:
    """Return the body of an error, as far as it can be read: the status says more."""
    found = bytearray()
    with contextlib.suppress(APIError), contextlib.closing(blocks_of(response)) as blocks:
        for block in blocks:
            found += block
            if len(found) > MAX_ERROR:
                break
    return bytes(found[:MAX_ERROR])


def blocks_of(response: httpx2.Response) -> Generator[bytes]:
    """Yield the body of an answer in blocks of at most a megabyte, and close it in any case.

    Compression was not asked for. Of what comes all the same, gzip and deflate are undone piece by
    piece; others could turn a few bytes into a block without end.
    """
    try:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in {"", "identity", "gzip", "deflate"}:
            msg = (
                f"The server compressed its answer ({plain(encoding)[:40]!r}), which was not asked "
                "for. Check what ANTHROPIC_BASE_URL leads to."
            )
            raise APIError(msg, code=ENDLESS)
        blocks = response.iter_bytes()
        while (block := _ask(lambda: next(blocks, None))) is not None:
            yield block
    finally:
        response.close()


def _ask(send: Callable[[], Answer]) -> Answer:
    """Do one thing with the SDK; its exceptions become ours, with nothing of theirs attached."""
    import anthropic
    import httpx2

    try:
        return send()
    except anthropic.APIConnectionError as error:
        failure: Exception = _connection_error(error)
    except (anthropic.AnthropicError, httpx2.HTTPError, httpx2.StreamError) as error:
        failure = APIError(f"The connection to the API broke ({type(error).__name__}).")
    except TypeError as error:
        if "authentication" not in str(error):
            raise
        failure = CredentialsError(NO_CREDENTIALS)
    except UnicodeEncodeError:  # headers are written before anything is sent
        failure = _unwritable()
    # Raised out here, so that the SDK's exception is not even the context of ours.
    raise failure


def _unwritable() -> APIError:
    return APIError(
        "The request has a header that HTTP cannot carry, so nothing was sent. Does the key, the "
        "token or a beta hold a line break, a blank or a letter outside ASCII? Strip it.",
        code=UNWRITABLE,
    )


def _connection_error(error: anthropic.APIConnectionError) -> APIError:
    import httpx2

    cause = error.__cause__
    # These happen before a byte of the request leaves, so nothing can have been created.
    if isinstance(cause, httpx2.ConnectError | httpx2.ConnectTimeout | httpx2.PoolTimeout):
        return APIError(
            f"The API could not be reached ({type(cause).__name__}); check the network and "
            "ANTHROPIC_BASE_URL.",
            code=UNSENT,
        )
    if isinstance(cause, httpx2.LocalProtocolError) and "header" in str(cause).lower():
        return _unwritable()
    if not isinstance(cause, httpx2.HTTPError | httpx2.StreamError | OSError | None):
        return APIError(
            f"The client cannot be used ({type(cause).__name__}): was it closed, or do its "
            "credentials fail? Build another one.",
            code=UNUSABLE,
        )
    return APIError(f"The connection to the API broke ({type(cause or error).__name__}).")
