"""The words of a sweep, `seed=0,1,2;grpo.kl_coef=0.001,0.01`, and the names of its points.

Beside fields whole configs may be swept, `config=A.py,B.py:ARG`: what they differ in is what their points set.
"""

import hashlib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath

from stgrpo.config import FIELDS
from stgrpo.config.names import suggest
from stgrpo.errors import UserError
from stgrpo.workdir import RUNTIME_FIELDS
from stgrpo.workdir.keys import counting

CONFIG = "config"
"""In the place of a field: files of configs."""
MOST = 1000
"""Points of a sweep; Slurm takes no longer arrays unless it is told to."""
_EXAMPLE = "give fields with values, as --sweep='seed=0,1,2;grpo.kl_coef=0.001,0.01'"
_NAME = 120  # bytes of a point's name
_OPENING, _CLOSING = "([{", ")]}"


def parse_grid(text: str) -> dict[str, list[str]]:
    """The values of each swept field, as they were written.

    Commas and semicolons within brackets or quotes belong to a value.

    Raises:
        UserError: it is empty or too large, a field is unknown, named twice, without values, or does not change a run.
    """
    grid: dict[str, list[str]] = {}
    for part in filter(None, (part.strip() for part in _split(text, ";"))):
        field, equals, values = part.partition("=")
        field = field.strip()
        if not equals:
            raise UserError(f"--sweep: {part[:80]!r} sets nothing: {_EXAMPLE}")
        _check_field(field, grid)
        grid[field] = [_value(field, value.strip()) for value in _split(values, ",")]
    if not grid:
        raise UserError(f"--sweep is empty: {_EXAMPLE}")
    if (count := math.prod(map(len, grid.values()))) > MOST:
        raise UserError(f"--sweep has {count:,} points, {MOST:,} are the most: leave some values out")
    return grid


def _check_field(field: str, grid: Mapping[str, object]) -> None:
    if field not in (CONFIG, *FIELDS):
        raise UserError(f"--sweep: {field!r} is not a field of the config: {suggest(field)}")
    if field in grid:
        raise UserError(f"--sweep names {field} twice: put all its values into one list")
    if f"{field}.".startswith(tuple(f"{name}." for name in RUNTIME_FIELDS)):
        what = "says where or how a run is done, not what it is, so all points would be one run"
        raise UserError(f"--sweep: {field} {what}: sweep another field")


def _value(field: str, text: str) -> str:
    if not text:
        raise UserError(f"--sweep: a value of {field} is empty: give one, or '' in quotes for an empty text")
    quoted = re.fullmatch(r"""(["'])([^"']*)\1""", text)
    value = quoted[2] if quoted else text
    if field == CONFIG and PurePath(value.partition(":")[0]).suffix != ".py":
        raise UserError(f"--sweep: config={value!r} is no file of a config: give FILE.py, or 'FILE.py:A,B' in quotes")
    return value


def _split(text: str, separator: str) -> Iterator[str]:
    """The parts between separators that stand in no brackets and no quotes.

    Raises:
        UserError: a bracket or a quote is not closed.
    """
    part, depth, quote = "", 0, ""
    for c in text:
        if c == separator and not depth and not quote:
            yield part
            part = ""
            continue
        part += c
        if quote:
            quote = "" if c == quote else quote
        elif c in "\"'":
            quote = c
        else:
            depth += (c in _OPENING) - (c in _CLOSING)
    if depth or quote:
        raise UserError(f"--sweep: {part.strip()[:80]!r} has a bracket or a quote that is not closed: {_EXAMPLE}")
    yield part


def points_of(values: Mapping[str, Sequence[object]]) -> dict[str, dict[str, object]]:
    """The points of a grid, the last field varying fastest: what each sets, by its name.

    Args:
        values: of each swept field, as the config has them.

    Raises:
        UserError: a field has a value twice.
    """
    for field, found in values.items():
        if twice := [value for i, value in enumerate(found) if value in found[:i]]:
            raise UserError(f"--sweep: {field} has the value {twice[0]!r} twice: leave one out")
    labels = _labels(list(values))
    points: dict[str, dict[str, object]] = {}
    for combination in itertools.product(*values.values()):
        point = dict(zip(values, combination, strict=True))
        points[_name({labels[field]: value for field, value in point.items()}, points)] = point
    return points


def spread_configs(
    points: Mapping[str, Mapping[str, object]], configs: Mapping[str, Mapping[str, object]]
) -> dict[str, dict[str, object]]:
    """The same points, each with the fields of its config in the place of its name.

    A field that points set themselves stays as they set it.

    Args:
        points: whose `config` is one of the names.
        configs: by a name, all fields with their values.

    Raises:
        UserError: two configs would be one and the same run, as they differ in nothing but swept and runtime fields.
    """
    first = next(iter(configs.values()))
    differing = [field for field in first if any(config[field] != first[field] for config in configs.values())]
    swept = next(iter(points.values()))
    deciding = counting(dict.fromkeys(differing), (*RUNTIME_FIELDS, *swept))
    told: dict[str, str] = {}
    for name, config in configs.items():
        same = told.setdefault(repr([config[field] for field in deciding]), name)
        if same != name:
            raise UserError(f"--sweep: the configs {same} and {name} are the same run: leave one out")
    found = {}
    for name, point in points.items():
        config = configs[str(point[CONFIG])]
        found[name] = {field: config[field] for field in differing} | {k: v for k, v in point.items() if k != CONFIG}
    return found


def config_names(texts: Sequence[str]) -> list[str]:
    """What files of configs are called in the names of points: FILE or FILE-ARG; all of it where two have the same."""
    parts = [text.partition(":") for text in texts]
    short = ["-".join(filter(None, (PurePath(file).stem, arg))) for file, _, arg in parts]
    return [name if short.count(name) == 1 else text for name, text in zip(short, texts, strict=True)]


def _labels(fields: Sequence[str]) -> dict[str, str]:
    """What a field is called in names: its last part, where no other swept field has the same."""
    last = [field.rpartition(".")[2] for field in fields]
    return {field: field if last.count(word) > 1 else word for field, word in zip(fields, last, strict=True)}


def _name(values: Mapping[str, object], taken: Mapping[str, object]) -> str:
    """A folder's name for a point, one that no other has."""
    name = ",".join(f"{label}={_plain(value)}" for label, value in values.items())
    if len(name.encode()) > _NAME or name in taken:
        digest = hashlib.sha256(repr(list(values.items())).encode()).hexdigest()[:8]
        name = f"{name[: _NAME - 9]}-{digest}"
    return name


def _plain(value: object) -> str:
    """A value in characters that need no quotes in a shell."""
    if isinstance(value, int | float):
        return str(value)
    text = "+".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
    return re.sub(r"[^A-Za-z0-9_.+-]+", "-", text).strip("-") or "none"
