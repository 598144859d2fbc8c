"""Padding of ragged rows to a small number of shapes, so that few programs are compiled."""

from collections.abc import Sequence

import numpy as np


def bucket(n: int, *, smallest: int) -> int:
    """The least size ≥ n among smallest × {1, 1.25, 1.5, 1.75} × 2^k (rounded up), so that padding stays under a fifth.

    Sizes under 8 × smallest and every small count grow by powers of two alone, to keep the number of shapes low.
    """
    size = smallest
    while size < n:
        size *= 2
    if size >= 8:
        for quarter in (5, 6, 7):
            if n <= (size // 2) * quarter // 4:
                return (size // 2) * quarter // 4
    return size


def pad_rows(rows: Sequence[Sequence[int]], *, rows_to: int = 0, smallest: int = 1, length: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows padded on the right with 0 to one length, and the real length of each (at least 1).

    Args:
      rows: token ids.
      rows_to: rows of the result, 0 for as many as given; added rows are one 0 long.
      smallest: the smallest bucket of lengths.
      length: a fixed length instead of a bucket; 0 for the bucket.

    Returns:
      [rows, length] int32 and [rows] int32.
    """
    count = rows_to or len(rows)
    longest = max((len(r) for r in rows), default=1)
    out = np.zeros((count, length or bucket(longest, smallest=smallest)), np.int32)
    lengths = np.ones(count, np.int32)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
        lengths[i] = max(1, len(row))
    return out, lengths
