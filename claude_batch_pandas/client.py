"""All that is asked of the API: create, retrieve, list, cancel, download.

Every call is one HTTP request: no SDK retries (a lost answer would be a second paid batch), no
redirects (a 307 sends the prompts again), a fresh connection (a stale one fails ambiguously), and
always to our base URL, never to the host a `results_url` names. Answers are read up to a limit, as
plain JSON, and checked, because the SDK reads without end and its classes accept anything.

`exchange` makes the one request, and keeps the SDK's exceptions to itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import logging
import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_batch_pandas.addresses import (
    check_transport,
    has_version,
    is_loopback,
    origin_of,
    server_of,
)
from claude_batch_pandas.asides import Asides
from claude_batch_pandas.exceptions import (
    ENDLESS,
    OWN_CODES,
    UNSENT,
    APIError,
    CredentialsError,
    InputError,
)
from claude_batch_pandas.exchange import NO_CREDENTIALS, Reply, blocks_of, open_once, send_once
from claude_batch_pandas.lines import MAX_LINE
from claude_batch_pandas.records import Batch, Scope
from claude_batch_pandas.replies import (
    check_batch_id,
    read_batch,
    read_date,
    read_json,
)
from claude_batch_pandas.sharding import MAX_BATCH_REQUESTS
from claude_batch_pandas.spool import Body
from claude_batch_pandas.words import plain

if TYPE_CHECKING:
    import anthropic
    import httpx2

BATCHES = "/v1/messages/batches"
PAGE = 1000  # batches per list call, the API's maximum
MAX_RESULT = 4_000_000  # bytes a request on average; 300,000 tokens are two million

log = logging.getLogger(__name__)


class Listing(NamedTuple):
    """One look at the server's list of batches, newest first."""

    batches: list[Batch]
    scope: Scope
    now: float | None  # the server's clock, seconds since 1970
    has_older: bool = False  # whether there are more, older than these


class Client(Asides):
    """One workspace's batches.

    Parameters
    ----------
    sdk : anthropic.Anthropic, optional
        The user's own client; default: built from the environment as the SDK does.
    allow_http : bool
        Take an address that is not encrypted, and not this machine, too.

    Attributes
    ----------
    origin : str
        Scheme, host, port and path prefix that requests go to.
    date : float or None
        The server's clock in its latest answer, seconds since 1970.

    Raises
    ------
    InputError
        For a client that cannot send message batches, or an address that is not safe.
    CredentialsError
        When there is nothing to sign a request with, unless the origin is this machine.
    """

    def __init__(self, sdk: Any = None, *, allow_http: bool = False) -> None:

        self._sdk: anthropic.Anthropic = _build() if sdk is None else _accept(sdk)
        self.origin = origin_of(str(self._sdk.base_url))
        self.date: float | None = None
        self._has_noted_host = False
        if not allow_http:
            check_transport(self.origin)
        if has_version(self.origin):
            words = f"The API's address {self.origin!r} ends in /v1, and requests will go to /v1/v1"
            warnings.warn(f"{words}/messages. Leave /v1 out of it.", UserWarning, stacklevel=2)
        if not _has_credentials(self._sdk):
            if not is_loopback(self.origin):
                raise CredentialsError(NO_CREDENTIALS)
            self._sdk = self._sdk.copy(api_key="a-loopback-server-needs-no-key")

    def __reduce__(self) -> Any:
        msg = "A client cannot be pickled: it holds the key. Make one where it is needed."
        raise InputError(msg)

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

        try:
            answer = self._send("post", BATCHES, headers, content=body)
        except APIError as error:
            if body.was_sent or error.code in OWN_CODES:
                raise
            cut = error.because(f"{error} The batch was not sent whole, so there is none.")
        else:
            return self._read(answer)
        cut.code = UNSENT
        raise cut

    def retrieve(self, batch_id: str) -> Batch:
        """Return one batch as it is now.

        Raises
        ------
        APIError
        """
        batch = self._read(self._get(f"{BATCHES}/{check_batch_id(batch_id)}"))
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
            has_more = bool(page.get("has_more"))
            if cursor is None or not has_more or not batches:
                has_older = cursor is None and has_more
                return Listing(found, self._scope(answer), read_date(answer.headers), has_older)
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
        self._send("delete", f"{BATCHES}/{check_batch_id(batch_id)}", {})

    def cancel(self, batch_id: str) -> Batch:
        """Ask the API to cancel a batch; what is done stays done.

        Raises
        ------
        APIError
        """
        return self._read(self._send("post", f"{BATCHES}/{check_batch_id(batch_id)}/cancel", {}))

    def download(self, batch_id: str, requests: int = MAX_BATCH_REQUESTS) -> Generator[bytes]:
        """Yield the raw bytes of a batch's results.

        Parameters
        ----------
        batch_id : str
        requests : int
            How many the batch has: answers of any length fit, a file without end does not.

        Raises
        ------
        APIError
            Also in the middle, when the connection is cut or the file does not end.
        """
        limit = min(requests, MAX_BATCH_REQUESTS) * MAX_RESULT + MAX_LINE
        path = f"{BATCHES}/{check_batch_id(batch_id)}/results"
        response = open_once(self._sdk, "get", path, {"Accept": "application/binary"})
        size = 0
        with contextlib.closing(blocks_of(response)) as blocks:
            for block in blocks:
                size += len(block)
                if size > limit:
                    msg = (
                        f"The server sent more than {limit:,} bytes as the results of batch "
                        f"{batch_id}, so they are none. Check what ANTHROPIC_BASE_URL leads to."
                    )
                    raise APIError(msg, code=ENDLESS)
                yield block

    def scope(self) -> Scope:
        """Ask the API which organization and workspace this credential belongs to.

        Raises
        ------
        APIError
        """
        return self.list(limit=1).scope

    def _page(self, query: Mapping[str, Any]) -> tuple[Reply, dict[str, Any], Sequence[Batch]]:
        """Return one page of the list: the answer, its JSON, its batches."""
        answer = self._get(BATCHES, query)
        page = read_json(answer.status, answer.content)
        data = page.get("data")
        if not isinstance(data, list):
            msg = (
                f"The server answered {answer.status} with a list of batches that has no "
                "data. Check what ANTHROPIC_BASE_URL leads to."
            )
            raise APIError(msg, status=answer.status)
        return answer, page, [read_batch(item) for item in data]

    def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Reply:
        answer = self._send("get", path, {}, query=query)
        self.date = read_date(answer.headers)
        return answer

    def _send(self, verb: str, path: str, headers: Mapping[str, str], **more: Any) -> Reply:
        return send_once(self._sdk, verb, path, headers, **more)

    def _read(self, answer: Reply) -> Batch:
        value = read_json(answer.status, answer.content)
        there = server_of(str(value.get("results_url") or ""))
        if there and there != server_of(self.origin) and not self._has_noted_host:
            self._has_noted_host = True
            log.info("Results are read from %s, not from %s.", self.origin, plain(there))
        return read_batch(value)

    def _scope(self, answer: Reply) -> Scope:
        headers = answer.headers
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
