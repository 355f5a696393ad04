"""Typed answers beside texts, and beside ``json_normalize`` over ``json.loads``.

From the lines of a results file to columns, and from the answers alone. They take turns in one process, over answers of five fields. CPU seconds; ratios are of the same
round.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pandas as pd

from claude_batch_pandas import frames
from claude_batch_pandas.columns import NOTHING, Builder, Columns, Stock
from claude_batch_pandas.decoders import decode_with
from claude_batch_pandas.outputs import Output, output_of
from claude_batch_pandas.results import read_block

ROUNDS = 5
BLOCK = 300  # lines that are read at once
MOST_OF_TEXT, LEAST_FASTER = 2.0, 4.0
TOPICS = ("cards", "loans", "fees")
SCHEMA = {
    "topic": Literal["cards", "loans", "fees"],
    "stars": int,
    "score": float,
    "urgent": bool,
    "reason": str,
}
REASON = "the customer asks about a card that was declined abroad and wants it sent again"
USAGE = {"input_tokens": 187, "output_tokens": 62, "service_tier": "batch"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Let rows and rounds be chosen."""
    parser.add_argument("--rows", type=int, default=100_000, help="default: 100,000")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"default: {ROUNDS}")


def main(chosen: argparse.Namespace) -> int:
    """Measure and print; 1 when a goal is missed."""
    texts = _answers(chosen.rows)
    blocks = _blocks(texts)
    text, typed = output_of("answer"), output_of("answer", SCHEMA)
    ways: dict[str, Callable[[], Any]] = {
        "texts": lambda: _columns(text, blocks),
        "typed": lambda: _columns(typed, blocks),
        "types alone": lambda: _types(typed, texts),
        "json_normalize": lambda: pd.json_normalize([json.loads(answer) for answer in texts]),
    }
    rounds = [{name: _cpu(do) for name, do in ways.items()} for _ in range(chosen.rounds)]
    for name in ways:
        print(f"{name:<15} {_spread([one[name] for one in rounds])} CPU s")
    of_text = [one["typed"] / one["texts"] for one in rounds]
    faster = [one["json_normalize"] / one["types alone"] for one in rounds]
    met = statistics.median(of_text) <= MOST_OF_TEXT and statistics.median(faster) >= LEAST_FASTER
    print(f"typed: {_spread(of_text)} times the texts; goal: at most {MOST_OF_TEXT:g}")
    words = "times less than json_normalize over json.loads"
    print(f"types alone: {_spread(faster)} {words}; goal: at least {LEAST_FASTER:g}")
    print("goals met" if met else "goals missed")
    return 0 if met else 1


def _answers(rows: int) -> list[str]:
    dice = random.Random(rows)  # noqa: S311 - answers, no secrets
    return [
        json.dumps(
            {
                "topic": dice.choice(TOPICS),
                "stars": dice.randint(1, 5),
                "score": dice.random(),
                "urgent": dice.random() < 0.5,
                "reason": f"{REASON} {i}",
            }
        )
        for i in range(rows)
    ]


def _blocks(texts: list[str]) -> list[bytes]:
    """Return the answers as a results file, in blocks of lines."""
    lines = []
    for i, text in enumerate(texts):
        message = {
            "model": "claude-haiku-5-5",
            "content": [{"type": "text", "text": text}],
            "stop_reason": "end_turn",
            "usage": USAGE,
        }
        result = {"type": "succeeded", "message": message}
        lines.append(json.dumps({"custom_id": f"{i:045}", "result": result}).encode() + b"\n")
    return [b"".join(lines[i : i + BLOCK]) for i in range(0, len(lines), BLOCK)]


def _columns(output: Output, blocks: list[bytes]) -> dict[str, Any]:
    builder = Builder(output)
    for block in blocks:
        builder.add(read_block(block), len(block))
    stock = builder.stock()
    return frames.arrays(output, Columns(stock, np.arange(len(stock.codes))))


def _types(output: Output, texts: list[str]) -> dict[str, Any]:
    """Make columns of nothing but answers, as `json_normalize` is given them."""
    cells, refused = decode_with(output)([*texts])
    assert not refused, "every answer fits its schema"
    stock = Stock.of_cells(output, cells, {}, NOTHING)
    return frames.arrays(output, Columns(stock, np.arange(len(texts))))


def _cpu(do: Callable[[], Any]) -> float:
    before = time.process_time()
    do()
    return time.process_time() - before


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"
