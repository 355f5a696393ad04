"""The only file that talks through anthropic: create, retrieve, list, cancel, download.

Every call is one HTTP request: no SDK retries (a lost answer would be a second paid batch), no
redirects (a 307 sends the prompts again), a fresh connection (a stale one fails ambiguously), and
always to our base URL, never to the host a `results_url` names. Answers are read as plain JSON
and checked here, because the SDK's classes accept anything.

SDK and httpx2 exceptions carry the key and the whole body. None leaves this file, not even as the
context of one of ours.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from claude_batch_pandas.addresses import is_loopback, origin_of
from claude_batch_pandas.exceptions import (
    UNSENT,
    UNWRITABLE,
    APIError,
    CredentialsError,
    InputError,
)
from claude_batch_pandas.records import Batch, Scope
from claude_batch_pandas.replies import (
    check_batch_id,
    read_batch,
    read_date,
    read_json,
    read_retry_after,
)
from claude_batch_pandas.spool import Body

if TYPE_CHECKING:
    import anthropic
    import httpx2

BATCHES = "/v1/messages/batches"
PAGE = 1000  # batches per list call, the API's maximum

NO_CREDENTIALS = (
    "No credentials for the Claude API were found. Give one of: the environment variable "
    "ANTHROPIC_API_KEY or ANTHROPIC_AUTH_TOKEN; a profile (ANTHROPIC_PROFILE, or the active one "
    "in ~/.config/anthropic); client=anthropic.Anthropic(api_key=...). To try without a key, run "
    "`claude-batch emulate` and set ANTHROPIC_BASE_URL to the address it prints. Nothing was "
    "sent; the same call works once there is one."
)

Answer = TypeVar("Answer")


class Listing(NamedTuple):
    """One look at the server's list of batches, newest first."""

    batches: list[Batch]
    scope: Scope
    now: float | None  # the server's clock, seconds since 1970


class Client:
    """One workspace's batches.

    Parameters
    ----------
    sdk : anthropic.Anthropic, optional
        The user's own client; default: built from the environment as the SDK does.

    Attributes
    ----------
    origin : str
        Scheme, host, port and path prefix that requests go to.
    date : float or None
        The server's clock in its latest answer, seconds since 1970.

    Raises
    ------
    InputError
        For a client that cannot send message batches.
    CredentialsError
        When there is nothing to sign a request with, unless the origin is this machine.
    """

    def __init__(self, sdk: Any = None) -> None:

        self._sdk: anthropic.Anthropic = _build() if sdk is None else _accept(sdk)
        self.origin = origin_of(str(self._sdk.base_url))
        self.date: float | None = None
        if not _has_credentials(self._sdk):
            if not is_loopback(self.origin):
                raise CredentialsError(NO_CREDENTIALS)
            self._sdk = self._sdk.copy(api_key="a-loopback-server-needs-no-key")

    def fingerprint(self, secret: bytes) -> str | None:
        """Return a keyed hash that tells one static credential from another.

        Parameters
        ----------
        secret : bytes
            Random bytes that stay on this machine; without them the hash says nothing.

        Returns
        -------
        str or None
            None when the SDK fetches credentials by itself.
        """
        signing = {
            name: value
            for name, value in self._sdk.default_headers.items()
            if name.lower() in {"authorization", "x-api-key"} and isinstance(value, str)
        }
        if not signing:
            return None
        seen = "\n".join(f"{name.lower()}:{value}" for name, value in sorted(signing.items()))
        return hmac.new(secret, seen.encode(), hashlib.sha256).hexdigest()[:32]

    def create(self, body: Body, betas: Sequence[str] = ()) -> Batch:
        """Send one batch, once.

        Parameters
        ----------
        body : Body
            The bytes of ``{"requests": [...]}``.
        betas : sequence of str
            For the ``anthropic-beta`` header.

        Raises
        ------
        APIError
            `is_refusal` tells whether it proves that no batch was created.
        """
        headers = {"Content-Length": str(body.size), "Content-Type": "application/json"}
        if betas:
            headers["anthropic-beta"] = ",".join(betas)

        def send() -> httpx2.Response:
            return self._sdk.post(
                BATCHES, cast_to=_response(), content=body, options=_once(headers)
            )

        try:
            answer = _ask(send)
        except APIError as error:
            if body.was_sent or error.code is not None:
                raise
            cut = error.because(f"{error} The batch was not sent whole, so there is none.")
        else:
            return _read(answer)
        cut.code = UNSENT
        raise cut

    def retrieve(self, batch_id: str) -> Batch:
        """Return one batch as it is now.

        Raises
        ------
        APIError
        """
        batch = _read(self._get(f"{BATCHES}/{check_batch_id(batch_id)}"))
        if batch.id != batch_id:
            msg = (
                f"Asked for batch {batch_id}, the server answered with another one. Check what "
                "ANTHROPIC_BASE_URL leads to."
            )
            raise APIError(msg)
        return batch

    def list(self, *, limit: int = PAGE, before_id: str | None = None) -> Listing:
        """Return the newest batches; with `before_id`, all that are newer than that one.

        Raises
        ------
        APIError
        """
        found: list[Batch] = []
        cursor = before_id
        while True:
            query: dict[str, Any] = {"limit": limit}
            if cursor is not None:
                query["before_id"] = cursor
            answer, page, batches = self._page(query)
            if any(batch.id == cursor for batch in batches) or (found and batches[:1] == found[:1]):
                msg = (
                    f"The server's list gave the same page again for before_id={cursor}, so no "
                    "batch can be looked for there. Check what ANTHROPIC_BASE_URL leads to."
                )
                raise APIError(msg)
            found = [*batches, *found]
            if cursor is None or not page.get("has_more") or not batches:
                return Listing(found, self._scope(answer), read_date(answer.headers))
            cursor = batches[0].id

    def history(self, since: float) -> Iterator[Batch]:
        """Yield the batches of the workspace created since then, newest first.

        Parameters
        ----------
        since : float
            Seconds since 1970.

        Raises
        ------
        APIError
        """
        query: dict[str, Any] = {"limit": PAGE}
        seen: set[str] = set()
        while True:
            _, page, batches = self._page(query)
            new = [batch for batch in batches if batch.id not in seen]
            seen.update(batch.id for batch in new)
            yield from (batch for batch in new if batch.created_at >= since)
            is_past = any(batch.created_at < since for batch in new)
            if is_past or not new or not page.get("has_more"):
                return
            query = {"limit": PAGE, "after_id": batches[-1].id}

    def delete(self, batch_id: str) -> None:
        """Delete a batch that has ended, with its requests and results, from the server.

        Raises
        ------
        APIError
        """

        def send() -> httpx2.Response:
            path = f"{BATCHES}/{check_batch_id(batch_id)}"
            return self._sdk.delete(path, cast_to=_response(), options=_once({}))

        _ask(send)

    def cancel(self, batch_id: str) -> Batch:
        """Ask the API to cancel a batch; what is done stays done.

        Raises
        ------
        APIError
        """

        def send() -> httpx2.Response:
            path = f"{BATCHES}/{check_batch_id(batch_id)}/cancel"
            return self._sdk.post(path, cast_to=_response(), options=_once({}))

        return _read(_ask(send))

    def download(self, batch_id: str) -> Generator[bytes]:
        """Yield the raw bytes of a batch's results.

        Raises
        ------
        APIError
            Also in the middle, when the connection is cut.
        """
        headers = {"Accept": "application/binary", "Accept-Encoding": "identity"}

        def send() -> httpx2.Response:
            path = f"{BATCHES}/{check_batch_id(batch_id)}/results"
            answer: httpx2.Response = self._sdk.get(
                path,
                cast_to=_response(),
                stream=True,
                stream_cls=_no_stream(),
                options=_once(headers),
            )
            return answer

        response = _ask(send)
        try:
            blocks = response.iter_bytes()
            while True:
                block = _ask(lambda: next(blocks, None))
                if block is None:
                    return
                yield block
        finally:
            response.close()

    def scope(self) -> Scope:
        """Ask the API which organization and workspace this credential belongs to.

        Raises
        ------
        APIError
        """
        return self.list(limit=1).scope

    def _page(
        self, query: Mapping[str, Any]
    ) -> tuple[httpx2.Response, dict[str, Any], Sequence[Batch]]:
        """Return one page of the list: the answer, its JSON, its batches."""
        answer = self._get(BATCHES, query)
        page = read_json(answer.status_code, answer.content)
        data = page.get("data")
        if not isinstance(data, list):
            msg = (
                f"The server answered {answer.status_code} with a list of batches that has no "
                "data. Check what ANTHROPIC_BASE_URL leads to."
            )
            raise APIError(msg, status=answer.status_code)
        return answer, page, [read_batch(item) for item in data]

    def _get(self, path: str, query: Mapping[str, Any] | None = None) -> httpx2.Response:
        def send() -> httpx2.Response:
            options = _once({})
            if query:
                options["params"] = dict(query)
            return self._sdk.get(path, cast_to=_response(), options=options)

        answer = _ask(send)
        self.date = read_date(answer.headers)
        return answer

    def _scope(self, response: httpx2.Response) -> Scope:
        headers = response.headers
        return Scope(
            self.origin,
            headers.get("anthropic-organization-id", ""),
            headers.get("anthropic-workspace-id", ""),
        )


def _build() -> anthropic.Anthropic:
    import anthropic
    import httpx2

    transport = _transport()
    try:
        return anthropic.Anthropic(http_client=transport)
    except httpx2.InvalidURL:
        failure: Exception = InputError(
            "ANTHROPIC_BASE_URL is not an address; it should look like 'https://api.anthropic.com'."
        )
    except (anthropic.AnthropicError, ValueError) as error:
        failure = CredentialsError(f"The SDK found credentials that it cannot use: {error}")
    transport.close()
    raise failure


def _transport() -> httpx2.Client:
    import anthropic
    import httpx2

    try:
        return anthropic.DefaultHttpxClient(follow_redirects=False)
    except (ValueError, httpx2.InvalidURL):  # it may hold a password, so it is not shown
        msg = "A proxy of the environment is not an address; check HTTPS_PROXY and ALL_PROXY."
    except OSError as error:
        msg = f"The certificates cannot be read ({error}); check SSL_CERT_FILE and SSL_CERT_DIR."
    raise InputError(msg)


def _accept(sdk: Any) -> anthropic.Anthropic:
    import anthropic

    if isinstance(sdk, anthropic.Anthropic) and getattr(sdk.messages, "batches", None) is not None:
        return sdk
    name = type(sdk).__name__
    if name.startswith("Async"):
        hint = (
            "it is asynchronous; pass the synchronous anthropic.Anthropic, it blocks no loop here"
        )
    elif isinstance(sdk, anthropic.Anthropic) or name.startswith("Anthropic"):
        hint = "it has no Message Batches API; pass an anthropic.Anthropic"
    else:
        hint = "pass an anthropic.Anthropic"
    msg = f"client={name} cannot be used: {hint}."
    raise InputError(msg)


def _has_credentials(sdk: anthropic.Anthropic) -> bool:
    names = {
        name.lower()
        for name, value in sdk.default_headers.items()
        if isinstance(value, str) and value
    }
    return sdk.credentials is not None or bool(names & {"authorization", "x-api-key"})


def _response() -> type[httpx2.Response]:
    import httpx2

    return httpx2.Response


def _no_stream() -> Any:
    import anthropic

    return anthropic.Stream[Any]  # never made: with cast_to=Response the raw response comes back


def _once(headers: Mapping[str, str]) -> Any:
    """Return the SDK options of a request that is sent exactly once."""
    return {
        "headers": {"Connection": "close", **headers},
        "max_retries": 0,
        "follow_redirects": False,
    }


def _read(response: httpx2.Response) -> Batch:
    return read_batch(read_json(response.status_code, response.content))


def _ask(send: Callable[[], Answer]) -> Answer:
    """Do one thing with the SDK; its exceptions become ours, with nothing of theirs attached."""
    import anthropic
    import httpx2

    try:
        return send()
    except anthropic.APIStatusError as error:
        failure: Exception = _status_error(error)
    except anthropic.APIConnectionError as error:
        failure = _connection_error(error)
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


def _status_error(error: anthropic.APIStatusError) -> APIError:
    envelope = error.body if isinstance(error.body, Mapping) else {}
    is_genuine = envelope.get("type") == "error" and isinstance(envelope.get("error"), Mapping)
    told = error.api_message if is_genuine else None
    words = told if isinstance(told, str) and told else "no explanation came with it"
    kind = error.type if is_genuine else None
    label = f"{error.status_code} {kind}" if kind else f"{error.status_code}"
    return APIError(
        f"The API answered {label}: {_sentence(words[:500])}",
        status=error.status_code,
        type=kind,
        code=error.error_code if is_genuine else None,
        request_id=error.request_id,
        retry_after=read_retry_after(error.response.headers),
    )


def _sentence(words: str) -> str:
    return words if words.rstrip().endswith((".", "!", "?")) else f"{words.rstrip()}."


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
    return APIError(f"The connection to the API broke ({type(cause or error).__name__}).")
