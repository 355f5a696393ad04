"""Which requests were seen, by content hash: 16 bytes each, and a table of their numbers. Pure.

A dict of as many hashes takes ten times the memory, and a frame can have millions of rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from claude_batch_pandas.requests import DIGEST_SIZE

FEWEST = 1 << 12  # slots of a table; a power of two, as every other count of them
AT_ONCE = 1 << 16  # hashes that are put into a larger table at a time
WORDS = (-1, DIGEST_SIZE // 8)  # a hash as numbers

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]


class Seen:
    """Numbers requests in the order in which they are seen.

    Attributes
    ----------
    digests : bytearray
        The content hash of each, end to end.
    """

    def __init__(self) -> None:
        self.digests = bytearray()
        self._table = np.zeros(FEWEST, np.uint32)  # a number and one; 0 is free

    def __len__(self) -> int:
        return len(self.digests) // DIGEST_SIZE

    def number(self, digests: Sequence[bytes]) -> Numbers:
        """Return the number of each request; those that were not seen get the next ones."""
        once = [*dict.fromkeys(digests)]
        words = _words(b"".join(once))
        self._make_room(len(self) + len(once))  # now: a slot that is found is one of this table
        numbers, slots = self._find(words)
        new = numbers < 0
        count = int(np.count_nonzero(new))
        if count:
            numbers[new] = np.arange(len(self), len(self) + count)
            self.digests += words[new].tobytes()
            self._put(words[new], numbers[new], slots[new])
        if len(once) == len(digests):
            return numbers
        of = dict(zip(once, numbers.tolist(), strict=True))
        return np.array([of[digest] for digest in digests], np.int64)

    def _find(self, words: Words) -> tuple[Numbers, Numbers]:
        """Return the number of each hash, -1 where it was not seen, and the slot where that ended."""
        known = _words(self.digests)
        numbers = np.full(len(words), -1)
        slots, steps = self._ways(words)
        left = np.arange(len(words))
        while len(left):
            held = self._table[slots[left]].astype(np.int64) - 1
            left, held = left[held >= 0], held[held >= 0]
            is_it = np.all(known[held] == words[left], axis=1)
            numbers[left[is_it]] = held[is_it]
            left = left[~is_it]
            slots[left] = (slots[left] + steps[left]) % len(self._table)
        return numbers, slots

    def _put(self, words: Words, numbers: Numbers, slots: Numbers) -> None:
        """Put hashes that are not in it into the table, each from where looking for it ended."""
        steps = self._ways(words)[1]
        left = np.arange(len(words))
        while len(left):
            free = left[self._table[slots[left]] == 0]
            self._table[slots[free]] = numbers[free] + 1  # of several, the last has it
            left = left[self._table[slots[left]] != numbers[left] + 1]
            slots[left] = (slots[left] + steps[left]) % len(self._table)

    def _make_room(self, count: int) -> None:
        """Let the table be at most half full with so many hashes."""
        if 2 * count <= len(self._table):
            return
        self._table = np.zeros(1 << (2 * count - 1).bit_length(), np.uint32)
        for start in range(0, len(self), AT_ONCE):
            part = self.digests[start * DIGEST_SIZE : (start + AT_ONCE) * DIGEST_SIZE]
            words = _words(part)
            self._put(words, np.arange(start, start + len(words)), self._ways(words)[0])

    def _ways(self, words: Words) -> tuple[Numbers, Numbers]:
        """Return the slot where each hash is looked for first, and the step to the next ones."""
        both = (words & np.uint64(len(self._table) - 1)).astype(np.int64)
        return both[:, 0].copy(), both[:, 1] | 1  # odd, so that every slot is come by


def _words(data: bytes | bytearray) -> Words:
    return np.frombuffer(data, np.uint64).reshape(WORDS)
