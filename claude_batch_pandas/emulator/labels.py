"""Which of some labels a text sounds most like: shared words, rare ones weighing more.

Simple on purpose: a demo of labelling should show a real confusion matrix, and this makes the
mistakes that word overlap makes. It never sees a right answer.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import Counter
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+")
_LINE = re.compile(r"^[ \t]*labels[ \t]*:[ \t]*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_SUFFIXES = (
    "ations",
    "ation",
    "ings",
    "ing",
    "ions",
    "ion",
    "ies",
    "ed",
    "es",
    "al",
    "e",
    "s",
    "y",
)
_SHORTEST_STEM = 3
_REMEMBERED_WORDS = 50_000

# Words that say nothing about a subject, in a label as little as in a text.
_EMPTY = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "can",
        "do",
        "does",
        "for",
        "from",
        "has",
        "have",
        "how",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "me",
        "my",
        "of",
        "on",
        "or",
        "our",
        "so",
        "that",
        "the",
        "there",
        "this",
        "to",
        "was",
        "we",
        "what",
        "when",
        "where",
        "which",
        "why",
        "will",
        "with",
        "you",
        "your",
    ]
)


def labels_of(text: str) -> tuple[str, ...]:
    """Return what a line ``labels: a, b, c`` of the text lists; empty without such a line."""
    line = _LINE.search(text) if _may_list(text) else None
    return _split(line[1]) if line else ()


def without_labels(text: str) -> str:
    """Return the text without its ``labels:`` lines: these would overlap with every label."""
    return _LINE.sub("", text) if _may_list(text) else text


def choose(labels: tuple[str, ...], text: str) -> str:
    """Return the label whose words overlap the text's most; a hash of the text settles ties."""
    return _overlap(labels).choose(text)


def _may_list(text: str) -> bool:
    """Spare nearly every text the pattern, which is far slower than a plain search."""
    return "abels" in text or "ABELS" in text


@lru_cache(maxsize=256)
def _split(line: str) -> tuple[str, ...]:
    names = (name.strip().strip("\"'`").strip() for name in line.strip().rstrip(".").split(","))
    return tuple(dict.fromkeys(name for name in names if name))


def _stem(word: str) -> str:
    """Cut the commonest endings off, so that `exchanging` meets `exchange`."""
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= _SHORTEST_STEM:
            word = word[: -len(suffix)]
            break
    # "topping" and "top", "canceled" and "cancelled"
    return word[:-1] if len(word) > _SHORTEST_STEM and word[-1] == word[-2] else word


def _words(text: str) -> dict[str, None]:
    return dict.fromkeys(_WORD.findall(text.lower()))


class _Overlap(dict[str, list[tuple[int, float]]]):
    """From a word, as written, to the labels it speaks for; filled as words are met."""

    def __init__(self, labels: tuple[str, ...]) -> None:
        super().__init__()
        self.labels = labels
        self._stems: dict[str, list[tuple[int, float]]] = {}
        stems = [
            list(dict.fromkeys(_stem(word) for word in _words(label) if word not in _EMPTY))
            for label in labels
        ]
        spread = Counter(stem for words in stems for stem in words)
        self.index: dict[str, list[tuple[int, float]]] = {}
        for position, words in enumerate(stems):
            weights = {stem: math.log(1 + len(labels) / spread[stem]) for stem in words}
            # A long label has more words to be hit by; its length must not win by itself.
            norm = math.sqrt(sum(weight * weight for weight in weights.values()))
            for stem, weight in weights.items():
                self._stems.setdefault(stem, []).append((position, weight * weight / norm))

    def __missing__(self, word: str) -> list[tuple[int, float]]:
        found = [] if word in _EMPTY else self._stems.get(_stem(word), [])
        if len(self) < _REMEMBERED_WORDS:
            self[word] = found
        return found

    def choose(self, text: str) -> str:
        """Return the label with the highest score."""
        scores: dict[int, float] = {}
        for found in {id(found): found for found in map(self.__getitem__, _words(text))}.values():
            for position, weight in found:
                scores[position] = scores.get(position, 0.0) + weight
        best = max(scores.values(), default=0.0) - 1e-9
        ties = sorted(p for p, score in scores.items() if score >= best) or range(len(self.labels))
        return self.labels[ties[zlib.crc32(text.encode()) % len(ties)]]


_overlap = lru_cache(maxsize=64)(_Overlap)
