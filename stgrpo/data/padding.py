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


def least_padding(tokens: Sequence[int], count: int, *, unit: int) -> tuple[tuple[int, ...], int]:
    """The lengths that rows are padded to with the least padding, each row to the next of them.

    Args:
        tokens: of each row, at least 0.
        count: of lengths, at most.
        unit: what lengths are multiples of.

    Returns:
        The lengths, the shortest first, and the tokens of all rows with padding.
    """
    sizes_M, rows_M = np.unique(np.maximum(-(-np.asarray(tokens) // unit), 1) * unit, return_counts=True)
    rows_M = np.cumsum(rows_M)  # that are no longer than each size
    least_M, before = sizes_M * rows_M, []  # where the longest so far is one of the lengths; the length before it
    for _ in range(1, min(count, len(sizes_M))):
        more_MM = least_M + sizes_M[:, None] * (rows_M[:, None] - rows_M)  # to a size, from a shorter one before it
        more_MM = np.where(np.tri(len(sizes_M), k=-1, dtype=bool), more_MM, least_M[:, None])
        before.append(np.where(more_MM.min(axis=1) < least_M, more_MM.argmin(axis=1), -1))
        least_M = more_MM.min(axis=1)
    lengths, at = [len(sizes_M) - 1], len(sizes_M) - 1
    for from_M in reversed(before):
        if from_M[at] >= 0:
            at = int(from_M[at])
            lengths.append(at)
    return tuple(int(sizes_M[i]) for i in reversed(lengths)), int(least_M[-1])


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
