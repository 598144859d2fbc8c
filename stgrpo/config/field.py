"""The declaration of a config field, of each kind there is: what it is set to, what that means, and what it may be.

A declaration is all that is written of a field: config, checks, `stgrpo help` and docs/config.md are made of it.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import ClassVar, Generic, TypeGuard, TypeVar

from stgrpo.errors import nearest

Value = bool | int | float | str | tuple[str, ...]
V = TypeVar("V", bound=Value | Sequence[str])

PAPER = "stated"
NOT_IN_PAPER = "not in paper"

_SHOWN = 80  # characters of a value in an error
_PART = 255  # bytes that file systems take for one name
_PATH = 4000  # for a path, with room for the names of files in it


@dataclasses.dataclass(frozen=True)
class Field(Generic[V]):
    """What every kind of field has.

    Attributes:
        default: the value in `base()`; its type is the field's.
        meaning: for a person, in some words.
        source: PAPER where the paper states the default, NOT_IN_PAPER where it leaves a question open that the default
            answers; empty where a paper has nothing to say, as of servers and memory.
        also: what others call it; a misspelt or foreign name is understood by these.
    """

    default: Value
    meaning: str
    _: dataclasses.KW_ONLY
    source: str = ""
    also: tuple[str, ...] = ()
    _kind: ClassVar[str]

    @property
    def kind(self) -> str:
        """What a value must be, for a person."""
        return self._kind

    def errors(self, name: str, value: object) -> Iterator[str]:
        """What is wrong with a value by itself, one line each, whatever its type."""
        if self.fits(value):
            yield from self.faults(name, value)
        else:
            yield f"{name}={shown(value)} must be {self.kind}: use {self.default!r}, the default"

    def fits(self, value: object) -> TypeGuard[V]:
        """Whether the type is right."""
        raise NotImplementedError

    def faults(self, name: str, value: V) -> Iterator[str]:
        """What is wrong with a value of the right type."""
        raise NotImplementedError

    def limits(self) -> str:
        """What a value may be, for a person."""
        return self.kind


@dataclasses.dataclass(frozen=True)
class Switch(Field[bool]):
    """True or False."""

    _kind: ClassVar[str] = "True or False"

    def fits(self, value: object) -> TypeGuard[bool]:
        """See `Field.fits`."""
        return isinstance(value, bool)

    def faults(self, name: str, value: bool) -> Iterator[str]:
        """See `Field.faults`."""
        yield from ()


@dataclasses.dataclass(frozen=True)
class Number(Field[float]):
    """A whole number if its default is one. It has a limit on either side, so that no slip of a digit starts a run.

    Attributes:
        low: at least this.
        above: or more than this.
        high: at most this.
        below: or less than this.
        besides: the one value outside the limits that has a meaning of its own.
        unit: what is counted or measured, where that is not plain.
    """

    _: dataclasses.KW_ONLY
    low: float | None = None
    above: float | None = None
    high: float | None = None
    below: float | None = None
    besides: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        if (self.low is None) == (self.above is None) or (self.high is None) == (self.below is None):
            raise ValueError(f"a number needs one limit on either side: {self.meaning!r}")

    @property
    def kind(self) -> str:
        """Whole or not, as the default is."""
        return "a whole number" if isinstance(self.default, int) else "a number"

    def fits(self, value: object) -> TypeGuard[float]:
        """See `Field.fits`."""
        right = int if isinstance(self.default, int) else int | float
        return isinstance(value, right) and not isinstance(value, bool)

    def faults(self, name: str, value: float) -> Iterator[str]:
        """See `Field.faults`."""
        if value != value:
            yield f"{name}=nan is no number: use {self.default!r}, the default"
        elif value == 0 and math.copysign(1, value) < 0:
            yield f"{name}=-0.0 is a zero below zero: use 0"
        elif value != self.besides:
            beside = "" if self.besides is None else f"{self.besides}, or "
            for limit, holds, fix in self._bounds():
                if not holds(value):
                    yield f"{name}={shown(value)} must be {beside}{limit}: use {fix}"

    def limits(self) -> str:
        """See `Field.limits`."""
        beside = "" if self.besides is None else f"{self.besides}, or "
        return beside + ", ".join(limit for limit, _, _ in self._bounds("{:,}"))

    def _bounds(self, form: str = "{}") -> Iterator[tuple[str, Callable[[float], bool], str]]:
        """Each limit in words, whether a value keeps it, and what to use instead."""
        if self.low is not None:
            yield f"at least {form.format(self.low)}", lambda value: value >= self.low, f"{self.low}"
        if self.above is not None:
            yield f"above {form.format(self.above)}", lambda value: value > self.above, f"{self.default!r}, the default"
        if self.high is not None:
            yield f"at most {form.format(self.high)}", lambda value: value <= self.high, f"{self.high}"
        if self.below is not None:
            inside = f"one from {self.low} to {0.9 * self.below:g}"
            yield f"below {form.format(self.below)}", lambda value: value < self.below, inside


@dataclasses.dataclass(frozen=True)
class Form:
    """What a text has to look like.

    Attributes:
        pattern: that it matches as a whole.
        noun: what it then is.
        example: one of them.
        is_private: whether a value that does not look like this may be a secret, and is not shown.
    """

    pattern: str
    noun: str
    example: str
    is_private: bool = False

    def faults(self, name: str, value: str) -> Iterator[str]:
        """Says that a text does not look like this, if so."""
        if not re.fullmatch(self.pattern, value):
            given = "(not shown, it may be a secret)" if self.is_private else shown(value)
            yield f"{name}={given} is no {self.noun}: use one such as {self.example!r}"


@dataclasses.dataclass(frozen=True)
class Text(Field[str]):
    """Any text on one line, or of one form; empty only if its default is.

    Attributes:
        longest: characters at most.
        form: if it has one.
        one_of: names that are known when a run starts only, in words; `checks` looks them up.
    """

    _: dataclasses.KW_ONLY
    longest: int = 200
    form: Form | None = None
    one_of: str = ""
    _kind: ClassVar[str] = "a text"

    def fits(self, value: object) -> TypeGuard[str]:
        """See `Field.fits`."""
        return isinstance(value, str)

    def faults(self, name: str, value: str) -> Iterator[str]:
        """See `Field.faults`."""
        if value != self.default:
            found = [] if _is_private(self.form) else list(_text_faults(name, value, self.longest))
            yield from found or (self.form.faults(name, value) if self.form else ())

    def limits(self) -> str:
        """See `Field.limits`."""
        plain = f"a text of at most {self.longest} characters"
        return self.one_of or (f"{_article(self.form.noun)}, such as `{self.form.example}`" if self.form else plain)


@dataclasses.dataclass(frozen=True)
class FilePath(Field[str]):
    """Where a file or a folder is; empty for none."""

    _kind: ClassVar[str] = "a path"

    def fits(self, value: object) -> TypeGuard[str]:
        """See `Field.fits`."""
        return isinstance(value, str)

    def faults(self, name: str, value: str) -> Iterator[str]:
        """See `Field.faults`."""
        if value:
            yield from list(_text_faults(name, value, _PATH)) or _path_faults(name, value)


@dataclasses.dataclass(frozen=True)
class Choice(Field[str]):
    """One of some words.

    Attributes:
        choices: each with its meaning; or the words alone, where they speak for themselves; or what returns them now.
    """

    _: dataclasses.KW_ONLY
    choices: Mapping[str, str] | tuple[str, ...] | Callable[[], tuple[str, ...]]
    _kind: ClassVar[str] = "a text"

    def known(self) -> tuple[str, ...]:
        """The words, now."""
        return tuple(self.choices() if callable(self.choices) else self.choices)

    def fits(self, value: object) -> TypeGuard[str]:
        """See `Field.fits`."""
        return isinstance(value, str)

    def faults(self, name: str, value: str) -> Iterator[str]:
        """See `Field.faults`."""
        yield from _choice_faults(name, value, self.known())

    def limits(self) -> str:
        """See `Field.limits`."""
        if callable(self.choices):
            return "an environment that is installed"
        return _words(self.choices)


@dataclasses.dataclass(frozen=True)
class Texts(Field[Sequence[str]]):
    """A tuple of texts, none of them empty.

    Attributes:
        each: what one of them is.
        choices: that each is one of.
        form: that each has.
        filled: whether there must be one.
        repeats: whether one may come twice.
        same: what two that mean the same have in common; None where only the same text does.
        longest: characters of each at most.
        one_of: as of `Text`.
    """

    _: dataclasses.KW_ONLY
    each: str
    choices: Mapping[str, str] | tuple[str, ...] = ()
    form: Form | None = None
    filled: bool = False
    repeats: bool = False
    same: Callable[[str], str] | None = None
    longest: int = 200
    one_of: str = ""
    _kind: ClassVar[str] = "a tuple of texts"

    def fits(self, value: object) -> TypeGuard[Sequence[str]]:
        """See `Field.fits`."""
        return isinstance(value, tuple | list) and all(isinstance(entry, str) for entry in value)

    def faults(self, name: str, value: Sequence[str]) -> Iterator[str]:
        """See `Field.faults`."""
        if self.filled and not value:
            yield f"{name} is empty: name at least one {self.each}"
        for entry in dict.fromkeys(value):
            yield from self._entry_faults(name, entry)
        if not self.repeats and (twice := repeated(value, self.same)):
            given = f"{name}={shown(tuple(value))}"
            if _is_private(self.form) and any(list(self.form.faults(name, entry)) for entry in value):
                given, twice = name, ""
            yield f"{given} has {_article(self.each)} twice{twice}: give each once"

    def limits(self) -> str:
        """See `Field.limits`."""
        which = self.one_of or _words(self.choices) or (f"such as `{self.form.example}`" if self.form else "any text")
        return f"{'one or more' if self.filled else 'any number'}, each {_article(self.each)}: {which}"

    def _entry_faults(self, name: str, entry: str) -> Iterator[str]:
        found = [] if _is_private(self.form) else list(_text_faults(name, entry, self.longest))
        if not found and self.choices:
            found = list(_choice_faults(name, entry, tuple(self.choices)))
        if not found and self.form:
            found = list(self.form.faults(name, entry))
        yield from found


@dataclasses.dataclass(frozen=True)
class Section:
    """Fields that belong together: a part of the config.

    Attributes:
        meaning: of the whole.
        fields: in the order of the config.
    """

    meaning: str
    fields: Mapping[str, Field]


def section(meaning: str, /, **fields: Field) -> Section:
    """A section of these fields, in this order."""
    return Section(meaning, fields)


def repeated(values: Iterable[str], same: Callable[[str], str] | None = None) -> str:
    """How the first two of some texts that mean the same are written, for an error; empty where all differ.

    Args:
        values: the texts.
        same: what those that mean the same have in common.
    """
    seen: dict[str, str] = {}
    for value in values:
        key = same(value) if same else value
        if key in seen:
            return f" ({shown(value)})" if value == seen[key] else f" ({shown(seen[key])} and {shown(value)})"
        seen[key] = value
    return ""


def shown(value: object) -> str:
    """A value of any type in an error: on one line, and not too long."""
    try:
        text = " ".join(repr(value).split())
    except Exception:  # noqa: BLE001 - an integer of too many digits, what is nested too deeply, somebody's own __repr__
        return f"({type(value).__name__})"
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 4 :]}"


def _is_private(form: Form | None) -> TypeGuard[Form]:
    return form is not None and form.is_private


def _words(choices: Mapping[str, str] | tuple[str, ...]) -> str:
    if isinstance(choices, Mapping):
        return "; ".join(f"`{word}` {meaning}" for word, meaning in choices.items())
    return ", ".join(f"`{word}`" if word else "empty" for word in choices)


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _choice_faults(name: str, value: str, known: tuple[str, ...]) -> Iterator[str]:
    if value not in known:
        yield f"{name}={shown(value)} is unknown: {nearest(value, filter(None, known))}"


def _text_faults(name: str, value: str, longest: int) -> Iterator[str]:
    if not value.strip(" "):
        yield f"{name}={shown(value)} is empty: give a text or leave it out"
    elif not value.isprintable():
        yield f"{name}={shown(value)} has characters that cannot be shown: use printable ones, on one line"
    elif len(value) > longest:
        yield f"{name}={shown(value)} has {len(value)} characters, at most {longest} are possible: use a shorter one"


def _path_faults(name: str, value: str) -> Iterator[str]:
    whole, part = len(value.encode()), max(len(part.encode()) for part in value.split("/"))
    if whole > _PATH:
        yield f"{name}={shown(value)} has {whole} bytes, at most {_PATH} are possible: use a shorter one"
    elif part > _PART:
        yield f"{name}={shown(value)} has a name of {part} bytes, at most {_PART} are possible: use a shorter one"
