"""Rows -> encoded requests: bytes, content hash, custom_id."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from claude_batch_pandas.exceptions import InputError
from claude_batch_pandas.requests import (
    CUSTOM_ID,
    DIGEST_SIZE,
    MAX_ATTEMPTS,
    MAX_REQUESTS,
    ORDINAL,
    Encoder,
    check_params,
    custom_id,
    custom_ids,
    id_prefix,
    with_attempt,
)
from claude_batch_pandas.stretches import Stretch
from claude_batch_pandas.templates import parse_prompt
from tests.strategies import texts

NONCE = "0123456789abcdef"
PARAMS = {"model": "claude-haiku-5-5", "max_tokens": 16}
GOLDEN = (
    b'{"max_tokens":16,"model":"claude-haiku-5-5","system":"Be brief.",'
    b'"messages":[{"role":"user","content":"Hi Ada \xc3\xa9\\n"}]}'
)

nonces = st.text("0123456789abcdef", min_size=16, max_size=16)
attempts = st.integers(1, MAX_ATTEMPTS)
ordinals = st.integers(0, MAX_REQUESTS)
digests = st.binary(min_size=DIGEST_SIZE, max_size=DIGEST_SIZE)


def encoder(
    template: Any, params: Any = None, system: Any = None, betas: tuple[str, ...] = ()
) -> Encoder:
    prompt = parse_prompt(template, system, ["a", "b"])
    return Encoder({**PARAMS, **(params or {})}, prompt, betas)


def encode(made: Encoder, columns: list[list[str]]) -> list[tuple[bytes, bytes] | None]:
    """Return (content hash, tail) per row, None for a row that cannot be encoded."""
    found = made.encode(columns)
    return [
        None if digest is None or tail is None else (digest, tail)
        for digest, tail in zip(found.digests, found.tails, strict=True)
    ]


def encode_one(made: Encoder, *texts: str) -> tuple[bytes, bytes]:
    [request] = encode(made, [[text] for text in texts])
    assert request is not None
    return request


def line(made: Encoder, request: tuple[bytes, bytes], **place: Any) -> bytes:
    """Return one request as it stands in a body."""
    place = {"nonce": NONCE, "attempt": 1, "first": 0, **place}
    [found] = Stretch.of(head=made.head, requests=dict([request]), **place)
    return found


def params_of(made: Encoder, request: tuple[bytes, bytes] | None) -> Any:
    """Return the params of a request as a JSON reader sees them."""
    assert request is not None
    whole = json.loads(line(made, request))
    assert list(whole) == ["custom_id", "params"]
    return whole["params"]


def hash_of(**changes: Any) -> bytes:
    return encode_one(encoder("{a}", **changes), "x")[0]


@given(st.lists(texts, min_size=1, max_size=5))
@settings(deadline=None, max_examples=200)
def test_any_text_round_trips(column: list[str]) -> None:
    """Every text comes out of the encoded request as it went in, one request per row."""
    made = encoder("{a}")

    assert [params_of(made, request) for request in encode(made, [column])] == [
        {**PARAMS, "messages": [{"role": "user", "content": text}]} for text in column
    ]


@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=4))
@settings(deadline=None, max_examples=100)
def test_several_texts_take_their_places(rows: list[tuple[str, str]]) -> None:
    """System and blocks each get their own text, and other parts stay."""
    image = {"type": "image", "source": {"type": "base64", "data": "e30="}}
    template = [{"role": "user", "content": [image, {"type": "text", "text": "{b}"}]}]
    made = encoder(template, system="{a}", params={"metadata": {"user_id": "u"}})
    found = encode(made, [[first for first, _ in rows], [second for _, second in rows]])

    assert [params_of(made, request) for request in found] == [
        {
            **PARAMS,
            "metadata": {"user_id": "u"},
            "system": first,
            "messages": [{"role": "user", "content": [image, {"type": "text", "text": second}]}],
        }
        for first, second in rows
    ]


def test_bytes_and_hash_of_a_known_request() -> None:
    """The wire format of a known request never changes by accident."""
    made = encoder("{a}", system="Be brief.")
    digest, tail = encode_one(made, "Hi Ada é\n")

    assert made.head + tail == GOLDEN
    assert digest.hex() == "fbb6ff942726ab7207595bccdda2c64a"


@given(texts)
@settings(deadline=None, max_examples=50)
def test_hash_is_that_of_the_bytes(text: str) -> None:
    """The content hash is the SHA-256 of the bytes of the params, cut to 16 bytes."""
    made = encoder("{a}")
    digest, tail = encode_one(made, text)

    assert digest == hashlib.sha256(made.head + tail).digest()[:16]


@given(st.permutations(["model", "max_tokens", "metadata", "thinking", "service_tier"]))
@settings(deadline=None, max_examples=50)
def test_order_of_params_has_no_meaning(order: list[str]) -> None:
    """The same params in another order are the same bytes."""
    values: dict[str, Any] = {
        **PARAMS,
        "metadata": {"user_id": "u"},
        "thinking": {"type": "disabled"},
        "service_tier": "auto",
    }
    prompt = parse_prompt("{a}", "s", ["a"])
    first = Encoder(values, prompt)
    second = Encoder({name: values[name] for name in order}, prompt)

    assert first.head == second.head
    assert encode_one(first, "x") == encode_one(second, "x")


@pytest.mark.parametrize("name", ["tools", "output_config"])
def test_order_below_the_top_is_kept(name: str) -> None:
    """The order a user gave inside a schema or tool is kept on the wire and counts in the hash."""
    first = {"z": {"type": "string"}, "a": {"type": "number"}}
    second = dict(reversed(first.items()))
    made = encoder("{a}", params={name: {"properties": first}})

    assert list(params_of(made, encode_one(made, "x"))[name]["properties"]) == ["z", "a"]
    assert hash_of(params={name: {"properties": first}}) != hash_of(
        params={name: {"properties": second}}
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"params": {"max_tokens": 17}},
        {"params": {"model": "claude-opus-5-5"}},
        {"system": "s"},
        {"betas": ("files-api",)},
    ],
)
def test_whatever_changes_the_answer_changes_the_hash(changes: dict[str, Any]) -> None:
    """Params, system prompt and betas are all part of what was asked."""
    assert hash_of(**changes) != hash_of()


def test_betas_are_not_in_the_body() -> None:
    """Betas go into a header: they change the hash and leave the bytes alone."""
    plain, beta = encoder("{a}"), encoder("{a}", betas=("one", "two"))
    first, second = encode_one(plain, "x"), encode_one(beta, "x")

    assert (plain.head, first[1]) == (beta.head, second[1])
    assert first[0] != second[0]


def test_params_do_not_depend_on_the_run() -> None:
    """Two runs send the same bytes for the same question; only the custom_id differs."""
    made = encoder("{a}")
    request = encode_one(made, "x")
    one = line(made, request, nonce="0" * 16, attempt=1, first=5)
    two = line(made, request, nonce="f" * 16, attempt=3, first=9)

    assert one != two
    assert one.split(b'","params":')[1] == two.split(b'","params":')[1]


@pytest.mark.parametrize("broken", ["\ud800", "ok \udfff", "\ude00\ud83d"])
@pytest.mark.parametrize("system", [None, "{b}"])
def test_row_that_is_not_utf8_costs_only_itself(broken: str, system: str | None) -> None:
    """A lone surrogate makes that row None; the rows around it are encoded as ever."""
    made = encoder("{a}", system=system)
    column = ["x", broken, "z"]
    columns = [column] if system is None else [["s"] * 3, column]
    [first, none, last] = encode(made, columns)

    assert none is None
    assert params_of(made, first)["messages"][0]["content"] == "x"
    assert params_of(made, last)["messages"][0]["content"] == "z"
    good = [["x", "z"]] if system is None else [["s", "s"], ["x", "z"]]
    assert [first, last] == encode(made, good)


def test_prompt_without_fields_is_one_request() -> None:
    """A prompt without columns gives one constant request."""
    made = encoder("Tell a joke")
    [tail], [digest] = made.constant()
    assert digest is not None
    assert tail is not None

    assert params_of(made, (digest, tail))["messages"][0]["content"] == "Tell a joke"
    assert digest == hashlib.sha256(made.head).digest()[:16]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (float("nan"), "Out of range float"),
        (float("inf"), "Out of range float"),
        ({1, 2}, "set is not JSON serializable"),
        (b"x", "bytes is not JSON serializable"),
        ("\ud800", "lone surrogate"),
        ({"deep": [object()]}, "object is not JSON serializable"),
    ],
)
def test_params_that_json_cannot_hold_are_refused(value: Any, why: str) -> None:
    """NaN, sets, bytes and broken text are refused by name; nothing is quietly changed."""
    with pytest.raises(InputError, match=rf"metadata .*{why}"):
        check_params({**PARAMS, "metadata": value})


@pytest.mark.parametrize("limit", [0, -1, 1.5, "16", None, True])
def test_impossible_max_tokens_is_refused(limit: Any) -> None:
    """max_tokens is a whole number of at least 1."""
    with pytest.raises(InputError, match="max_tokens must be a whole number of at least 1"):
        check_params({**PARAMS, "max_tokens": limit})


@pytest.mark.parametrize("model", [None, "", "  ", 3])
def test_impossible_model_is_refused(model: Any) -> None:
    """A model is a name."""
    with pytest.raises(InputError, match="model must be a name"):
        check_params({**PARAMS, "model": model})


def test_param_without_a_name_is_refused() -> None:
    """Parameters have names."""
    with pytest.raises(InputError, match="params has the key 3, a int"):
        check_params({**PARAMS, 3: 1})  # type: ignore[dict-item]


def test_good_params_pass_unchanged() -> None:
    """Params that can be sent come back equal, as a dict of their own."""
    given_params: dict[str, Any] = {**PARAMS, "tools": [{"name": "t"}]}
    checked = check_params(given_params)

    assert checked == given_params
    assert checked is not given_params


def test_broken_text_in_the_template_is_refused() -> None:
    """A lone surrogate in the constant part would break every row, so it is refused at once."""
    with pytest.raises(InputError, match="lone surrogate"):
        encoder([{"role": "user", "content": [{"type": "text", "text": "\ud800"}]}])


@given(nonces, attempts, ordinals, digests)
@settings(deadline=None, max_examples=200)
def test_custom_id_has_its_parts(nonce: str, attempt: int, ordinal: int, digest: bytes) -> None:
    """A custom_id fits the API's pattern, has one width, and gives back all its parts."""
    name = custom_id(nonce, attempt, ordinal, digest)
    parts = CUSTOM_ID.fullmatch(name)
    assert parts is not None

    assert re.fullmatch(rb"[a-zA-Z0-9_-]{1,64}", name)
    assert len(name) == 45
    assert parts[1].decode() == nonce
    assert (int(parts[2]), int(parts[3])) == (attempt, ordinal)
    assert digest.startswith(bytes.fromhex(parts[4].decode()))
    assert name.startswith(id_prefix(nonce, attempt))
    assert int(name[ORDINAL]) == ordinal


@given(st.lists(st.tuples(attempts, ordinals), unique=True, max_size=20), digests)
@settings(deadline=None, max_examples=100)
def test_custom_ids_are_unique(parts: list[tuple[int, int]], digest: bytes) -> None:
    """Two requests of a run never share a custom_id, not even when they ask the same."""
    names = {custom_id(NONCE, attempt, ordinal, digest) for attempt, ordinal in parts}

    assert len(names) == len(parts)


@given(attempts, st.lists(st.tuples(ordinals, digests), max_size=5))
@settings(deadline=None, max_examples=100)
def test_many_custom_ids_are_those_of_each(attempt: int, parts: list[tuple[int, bytes]]) -> None:
    """Making custom_ids in bulk gives what making each gives."""
    found = custom_ids(
        NONCE, attempt, [i for i, _ in parts], [digest[:8].hex() for _, digest in parts]
    )

    assert found == [custom_id(NONCE, attempt, i, digest).decode() for i, digest in parts]


@given(attempts, attempts, ordinals, texts)
@settings(deadline=None, max_examples=100)
def test_another_attempt_changes_only_the_attempt(
    first: int, second: int, ordinal: int, text: str
) -> None:
    """A request asked again has the same params, ordinal and hash."""
    made = encoder("{a}")
    request = encode_one(made, text)
    before = line(made, request, attempt=first, first=ordinal)
    after = line(made, request, attempt=second, first=ordinal)

    assert with_attempt(before, NONCE, second) == after
