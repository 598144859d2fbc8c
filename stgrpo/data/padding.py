"""Padding of ragged rows to a small number of shapes, so that few programs are compiled."""

import itertools
from collections.abc import Sequence

import numpy as np


def bucket(n: int, *, smallest: int, sizes: int = 4) -> int:
    """The least size ≥ n among smallest × 2^k × {1, 1.25, 1.5, 1.75}; under 8 only powers of two.

    Four sizes an octave: padding stays under a fifth, and few programs are compiled. With `sizes=2`, for what is the
    smaller part of a batch, {1, 1.5}: under a third, and half as many.
    """
    size = smallest
    while size < n:
        size *= 2
    half = size // 2
    between = [half * (sizes + i) // sizes for i in range(1, sizes)] if size > smallest and half >= 8 else []
    return next((b for b in between if n <= b), size)


def common_start(rows: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The tokens that all of some rows begin with."""
    ordered = sorted(map(tuple, rows))
    both = zip(ordered[0], ordered[-1], strict=False)  # what these two begin with, all between them do
    return tuple(one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], both))


def pad_rows(
    rows: Sequence[Sequence[int]], *, rows_to: int = 0, smallest: int = 1, length: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Rows padded on the right with 0 to one length, and the real length of each.

    Args:
        rows: token ids.
        rows_to: rows of the result, 0 for as many as given; added rows have length 0.
        smallest: the smallest bucket of lengths.
        length: a fixed length instead of a bucket; 0 for the bucket.

    Returns:
        [rows, length] int32 and [rows] int32.
    """
    longest = max((len(row) for row in rows), default=1)
    out = np.zeros((rows_to or len(rows), length or bucket(longest, smallest=smallest)), np.int32)
    lengths = np.zeros(len(out), np.int32)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
        lengths[i] = len(row)
    return out, lengths
