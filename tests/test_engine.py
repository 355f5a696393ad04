"""The engine: what the parts of a run are given, and when the API is asked for."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from claude_batch_pandas.client import Client
from claude_batch_pandas.engine import Engine
from claude_batch_pandas.exceptions import CredentialsError
from claude_batch_pandas.spool import Spool
from claude_batch_pandas.store import Store
from tests.conftest import JumpingClock


def engine_of(home: Path, connect: Any) -> Engine:
    """Return an engine over a ledger."""
    return Engine(
        connect=connect,
        store=Store(home),
        spool=Spool(home),
        clock=JumpingClock(),
        max_in_flight=1,
        poll_seconds=(1.0, 2.0),
        settle_seconds=3.0,
    )


def test_the_client_is_asked_for_when_it_is_needed(home: Path, client: Any) -> None:
    """A ledger can be read without credentials; each need asks anew, so that a key can come."""
    asked: list[Client] = []

    def connect() -> Client:
        asked.append(Client(client))
        return asked[-1]

    engine = engine_of(home, connect)
    engine.reader()
    before = list(asked)
    seen = [engine.client, engine.client]

    assert before == []
    assert seen == asked


def test_missing_credentials_are_told_by_whoever_needs_them(home: Path) -> None:
    """The error is the client's own."""

    def connect() -> Client:
        return Client()

    with pytest.raises(CredentialsError, match="No credentials for the Claude API"):
        _ = engine_of(home, connect).client


def test_readers_are_new_and_read_the_engines_ledger(home: Path) -> None:
    """What one reader remembers, another does not."""
    engine = engine_of(home, Client)
    first, second = engine.reader(), engine.reader()

    assert first is not second
    assert (first.store, first.spool) == (engine.store, engine.spool)


def test_an_engine_stays_as_it_was_built(home: Path) -> None:
    """Options that are set later concern later runs."""
    engine = engine_of(home, Client)

    with pytest.raises(FrozenInstanceError, match="max_in_flight"):
        engine.max_in_flight = 5  # type: ignore[misc]
    assert engine.dice is not engine_of(home, Client).dice
