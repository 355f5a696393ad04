"""Frames to ask about: reviews with newlines and quotes, some with accents, few with emoji.

They are the same every time. One emoji makes Python hold every character of its text in four bytes.
"""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd

SENTENCE = (
    "the card was declined when I paid abroad and nobody could tell me why so I called again "
    'later, waited, and heard: "please try it once more" thanks a lot for nothing and see you soon'
)
RARE = {7: "caf\u00e9 \N{EM DASH}", 40: "\u5f88\u597d \N{THUMBS UP SIGN}"}  # in every n-th review
TEMPLATE = (
    "Product: {product}\nStars: {stars}\n\nReview:\n{review}\n\nWhich topic is this review about? "
    "Answer with one short sentence."
)
SHORT = "You sort reviews of a bank's products."
LONG = " ".join([SHORT, "Be exact, be brief, and never invent what the review does not say."] * 19)
SYSTEMS = {"S": SHORT, "L": LONG[:2_000]}
MODEL = "claude-haiku-5-5"
MAX_TOKENS = 256
GOAL_ROWS = 100_000  # of the frame that goals are about


def write(rows: int, path: Path) -> None:
    """Write a frame of so many rows as Parquet."""
    dice = random.Random(rows)  # noqa: S311 - rows, no secrets
    reviews, many = [], SENTENCE.split()
    for i in range(rows):
        words = dice.choices(many, k=dice.randint(40, 110))
        if i % 3 == 0:
            words.insert(len(words) // 2, "\n")
        words += [rare for n, rare in RARE.items() if i % n == 0]
        reviews.append(f"{i} {' '.join(words)}")
    frame = pd.DataFrame(
        {
            "product": [f"card {i % 50}" for i in range(rows)],
            "stars": [i % 5 + 1 for i in range(rows)],
            "review": reviews,
        }
    )
    frame.to_parquet(path)
