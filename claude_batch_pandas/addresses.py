"""Addresses of servers: what may be kept of them, and whether they are this machine. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from claude_batch_pandas.exceptions import InputError


def origin_of(base_url: str) -> str:
    """Return scheme, host, port and path of a base URL.

    Raises
    ------
    InputError
        When it is no address of a server, or holds a user or a password, which are not shown.
    """
    parts = urlsplit(base_url)
    user, _, host = parts.netloc.rpartition("@")
    shown = parts._replace(netloc=host, query="", fragment="").geturl()
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = (
            f"The API's address {shown!r} cannot be used: it must begin with https:// or http://. "
            "Check ANTHROPIC_BASE_URL."
        )
        raise InputError(msg)
    if user:
        msg = (
            f"The API's address {shown!r} has a user or a password before its host, which would "
            "take the place of the key. Take them out of ANTHROPIC_BASE_URL; a relay's own key "
            "goes into ANTHROPIC_API_KEY."
        )
        raise InputError(msg)
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")


def check_transport(origin: str) -> None:
    """Refuse to send a key and prompts where everyone on the way could read them.

    Raises
    ------
    InputError
        For ``http://``, unless the origin is this machine.
    """
    if urlsplit(origin).scheme == "http" and not is_loopback(origin):
        msg = (
            f"The API's address {origin!r} is not encrypted: the key and the prompts could be read "
            "on the way. Use https://, or allow it with cbp.options.allow_http = True."
        )
        raise InputError(msg)


def has_version(origin: str) -> bool:
    """Tell whether an address ends as the API's own paths begin."""
    return origin.endswith("/v1")


def server_of(url: str) -> str:
    """Return scheme, host and port of an address, to compare it with another's; "" for none."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    except ValueError:
        return ""
    host = parts.hostname or ""
    return f"{parts.scheme}://{host}:{port}" if host else ""


def is_loopback(origin: str) -> bool:
    """Tell whether an address is this machine, which needs no key."""
    host = urlsplit(origin).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
