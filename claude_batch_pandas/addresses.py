"""Addresses of servers: what may be kept of them, and whether they are this machine. Pure."""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from claude_batch_pandas.exceptions import InputError


def origin_of(base_url: str) -> str:
    """Return scheme, host, port and path of a base URL; never the password in it.

    Raises
    ------
    InputError
        When it is no address of a server.
    """
    parts = urlsplit(base_url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        msg = (
            f"The API's address {parts._replace(netloc=parts.netloc.rpartition('@')[2]).geturl()!r} "
            "cannot be used: it must begin with https:// or http://. Check ANTHROPIC_BASE_URL."
        )
        raise InputError(msg)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}".rstrip("/")


def is_loopback(origin: str) -> bool:
    """Tell whether an address is this machine, which needs no key."""
    host = urlsplit(origin).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
