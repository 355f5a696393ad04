"""What is asked of the API beside batches: models, files, and one answer at once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from claude_batch_pandas.exceptions import APIError
from claude_batch_pandas.exchange import Reply
from claude_batch_pandas.replies import read_json

MESSAGES = "/v1/messages"
COUNT = "/v1/messages/count_tokens"
MODELS = "/v1/models"
FILES = "/v1/files"
MODEL_SECONDS = 10.0  # to wait for what is only good to know
COUNT_SECONDS = 60.0  # to wait for a count; a prompt may have megabytes
FILE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")


class Asides:
    """The part of a `Client` that is not about batches."""

    def _send(self, verb: str, path: str, headers: Mapping[str, str], **more: Any) -> Reply:
        raise NotImplementedError

    def model(self, name: str) -> dict[str, Any]:
        """Return what the API tells of a model: a ModelInfo object.

        Raises
        ------
        APIError
            `is_missing` when it does not know the model, or tells of none.
        """
        path = f"{MODELS}/{quote(name, safe='')}"
        answer = self._send("get", path, {}, timeout=MODEL_SECONDS)
        return read_json(answer.status, answer.content)

    def upload(self, name: str, data: bytes, media_type: str) -> str:
        """Give the API a file, and return its id.

        Parameters
        ----------
        name : str
        data : bytes
        media_type : str

        Raises
        ------
        APIError
        """
        # The SDK adds the boundary.
        headers = {"Content-Type": "multipart/form-data"}
        plain = name.encode("ascii", "replace").decode()  # a header has to hold it
        file = [("file", (plain, data, media_type))]
        answer = self._send("post", FILES, headers, files=file)
        found = read_json(answer.status, answer.content).get("id")
        if not isinstance(found, str) or not FILE_ID.fullmatch(found):
            msg = (
                f"The server answered {answer.status} to a file without a usable id. Check what "
                "ANTHROPIC_BASE_URL leads to."
            )
            raise APIError(msg, status=answer.status)
        return found

    def answer(self, params: bytes, betas: Sequence[str], seconds: float) -> bytes:
        """Ask one request now, at the live price, once; return the message as JSON.

        Parameters
        ----------
        params : bytes
            Messages parameters as JSON.
        betas : sequence of str
            For the ``anthropic-beta`` header.
        seconds : float
            To wait for it.

        Raises
        ------
        APIError
        """
        answer = self._send("post", MESSAGES, _headers(betas), content=params, timeout=seconds)
        if not isinstance(read_json(answer.status, answer.content).get("content"), list):
            msg = (
                f"The server answered {answer.status} to a request with something that is no "
                "message. Check what ANTHROPIC_BASE_URL leads to."
            )
            raise APIError(msg, status=answer.status)
        return answer.content

    def count(self, params: bytes, betas: Sequence[str]) -> int:
        """Return how many tokens the prompt of a request has; it costs nothing.

        Parameters
        ----------
        params : bytes
            What the token counting endpoint takes, as JSON.
        betas : sequence of str
            For the ``anthropic-beta`` header.

        Raises
        ------
        APIError
        """
        headers = _headers(betas)
        answer = self._send("post", COUNT, headers, content=params, timeout=COUNT_SECONDS)
        tokens = read_json(answer.status, answer.content).get("input_tokens")
        if not isinstance(tokens, int) or tokens < 0:
            msg = (
                f"The server answered {answer.status} to a count of tokens without a number. Check "
                "what ANTHROPIC_BASE_URL leads to."
            )
            raise APIError(msg, status=answer.status)
        return tokens

    def has_file(self, file_id: str) -> bool:
        """Tell whether the API still has a file.

        Raises
        ------
        APIError
        """
        try:
            self._send("get", f"{FILES}/{quote(file_id, safe='')}", {})
        except APIError as error:
            if error.is_missing:
                return False
            raise
        return True


def _headers(betas: Sequence[str]) -> dict[str, str]:
    """Return the headers of a request that is JSON."""
    headers = {"Content-Type": "application/json"}
    return {**headers, "anthropic-beta": ",".join(betas)} if betas else headers
