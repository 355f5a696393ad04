"""Imported by the server that `lives` are forked from: one call, so that all is imported and built."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import anthropic
import httpx2

import claude_batch_pandas as cbp
from claude_batch_pandas import session
from claude_batch_pandas.emulator import Emulator
from tests.lives import frame

with tempfile.TemporaryDirectory() as _folder:
    os.environ["CLAUDE_BATCH_HOME"] = str(Path(_folder) / "ledger")
    os.environ["HOME"] = _folder
    _web = httpx2.Client(transport=Emulator(duration=0.0).transport())
    _sdk = anthropic.Anthropic(api_key="none", http_client=_web)
    cbp.options.poll_seconds = (0.01, 0.01)
    frame().claude.batch("{text}", client=_sdk, progress="none")
    anthropic.DefaultHttpxClient().close()  # of the loopback; the first one imports for a second
    session.crew.stop()  # no thread is left when a process is forked
    cbp.options.reset()
