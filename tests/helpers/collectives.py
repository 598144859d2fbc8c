"""What a compiled program sends, read off its text: collectives with their sizes, in loops as often as these turn."""

import collections
import dataclasses
import math
import re
from collections.abc import Iterator

BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8}
KINDS = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_COLLECTIVE = re.compile(rf"= (\(?.*?) ({'|'.join(KINDS)})(-start)?\((.*)")
_WHILE = re.compile(r" while\(.*condition=%?([\w.-]+), body=%?([\w.-]+)")
_CALLED = re.compile(r"(?:calls|to_apply|branch_computations)=\{?%?([\w.-]+)")


@dataclasses.dataclass(frozen=True)
class Sent:
    """A collective of a program.

    Attributes:
        kind: of `KINDS`.
        members: devices of a group.
        size: bytes, of what is gathered, or of what each device has that is reduced or exchanged.
        count: times that it runs.
        text: the line.
    """

    kind: str
    members: int
    size: int
    count: int
    text: str


def collectives(text: str) -> list[Sent]:
    """Of a program, those of more than one device."""
    computations, entry = _computations(text)
    return [s for s in _walk(computations, entry, 1) if s.members > 1]


def totals(text: str, least: int = 0) -> dict[tuple[str, int], int]:
    """Bytes by kind and members, of those of at least so many bytes each time."""
    sums: dict[tuple[str, int], int] = collections.Counter()
    for s in collectives(text):
        if s.size >= least:
            sums[s.kind, s.members] += s.size * s.count
    return dict(sums)


def _computations(text: str) -> tuple[dict[str, list[str]], str]:
    found: dict[str, list[str]] = {}
    name = entry = ""
    for line in text.splitlines():
        head = re.match(r"(ENTRY )?%?([\w.-]+) \(.*-> .*\{$", line)
        if head:
            name = head[2]
            entry = name if head[1] else entry
            found[name] = []
        elif name:
            found[name].append(line)
    return found, entry


def _walk(computations: dict[str, list[str]], name: str, count: int) -> Iterator[Sent]:
    for line in computations.get(name, []):
        loop = _WHILE.search(line)
        if loop:
            yield from _walk(computations, loop[2], count * _turns(line, computations, loop[1]))
            continue
        sent = _COLLECTIVE.search(line)
        if sent:
            yield _sent(sent, line, count)
        elif called := _CALLED.search(line):
            yield from _walk(computations, called[1], count)


def _turns(line: str, computations: dict[str, list[str]], condition: str) -> int:
    known = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
    if known:
        return int(known[1])
    constants = [int(n) for x in computations[condition] for n in re.findall(r"s32\[\][^ ]* constant\((\d+)\)", x)]
    return max(constants, default=1)


def _sent(match: re.Match, line: str, count: int) -> Sent:
    result, kind, start, _ = match.groups()
    arrays = re.findall(r"(\w+)\[([\d,]*)\]", result)
    size = sum(BYTES[dtype] * math.prod(map(int, filter(None, sizes.split(",")))) for dtype, sizes in arrays)
    members = _members(line)
    if start and kind in ("all-gather", "reduce-scatter"):  # a tuple of operands and results
        size = size * members // (members + 1)
    elif start and kind == "all-to-all":
        size //= 2
    elif kind == "reduce-scatter":
        size *= members
    return Sent(kind, members, size, count, line.strip()[:300])


def _members(line: str) -> int:
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]<=", line):
        return int(found[2])
    if found := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return found[1].count(",") + 1
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\S+)? \{([^}]*)\}", line):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", found[1]))
        return math.prod(int(sizes[name]) for name in re.findall(r"'(\w+)'", found[2]))
    return 2 if "source_target_pairs" in line else 1
