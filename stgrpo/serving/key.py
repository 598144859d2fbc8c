"""The key of a server: read from the environment, sent in one header, and in nothing else that leaves this process."""

import base64
import html
import os
import re
from collections.abc import Callable, Mapping
from urllib.parse import quote

from stgrpo.errors import UserError
from stgrpo.files import to_json

_PART = 8  # characters of a key that are hidden wherever they stand together
_WHOLE = 12  # from which a key is hidden in answers too; a shorter one, such as "EMPTY", may be a word
_MASK = "***"
_SECRET = re.compile(r"(^|_)(KEY|TOKEN|SECRET|PASSWORD)$", re.IGNORECASE)  # what variables with one are called
_GIVEN = re.compile(
    r"""(--?[\w.-]*(?:key|token|secret|password)[\\"']*[\s=,:]+[\\"']*)[^\s"',)}]+|(?<=://)[^/\s@"']+(?=@)""",
    re.IGNORECASE,
)
_NAMES = {"\n": "a line break", "\r": "a line break", " ": "a space", "\t": "a tab", "\0": "a NUL"}


class Key:
    """A key, or none; it cannot be printed by mistake."""

    def __init__(self, value: str = ""):
        self._value = value
        self._parts = {form[i : i + _PART] for form in _forms(value) for i in range(max(1, len(form) - _PART + 1))}
        self._pattern = re.compile("|".join(map(re.escape, _forms(value)))) if len(value) >= _WHOLE else None

    def __repr__(self) -> str:
        return f"Key({_MASK if self._value else ''})"

    def headers(self) -> dict[str, str]:
        """What a request has for it."""
        return {"Authorization": f"Bearer {self._value}"} if self._value else {}

    def hide(self, text: str) -> str:
        """A message without the key: as it is, quoted, in base64, as a whole or in parts."""
        hidden = set()
        for part in self._parts:
            start = text.find(part)
            while start >= 0:
                hidden.update(range(start, start + len(part)))
                start = text.find(part, start + 1)
        kept = [("\0" if i in hidden else c) for i, c in enumerate(text)]
        return re.sub("\0+", _MASK, "".join(kept)) if hidden else text

    def remove(self, answer: str) -> str:
        """An answer without the key, which nobody has reason to repeat there."""
        return self._pattern.sub(_MASK, answer) if self._pattern else answer


def read_key(variable: str) -> Key:
    """The key in an environment variable; none where no variable is named.

    Raises:
        UserError: it is not set, or cannot be sent; of the key itself nothing is said.
    """
    if not variable:
        return Key()
    value = os.environ.get(variable, "")
    where = f"client.key_variable={variable!r}"
    if not value:
        raise UserError(f"{where} is not set in the environment: export it with the key")
    for at, character in enumerate(value, start=1):
        if not "!" <= character <= "~":
            what = _NAMES.get(character, "a control character" if character.isascii() else "not ASCII")
            raise UserError(f"{where}: character {at} of the {len(value)} of the key is {what}, export it without")
    return Key(value)


def secrets_hider(variables: Mapping[str, str], variable: str) -> Callable[[str], str]:
    """Returns what takes keys out of a text: those in an environment, and those given with a flag or in an address.

    Args:
        variables: the environment.
        variable: in it that holds a key by whatever name; empty for none. Others hold one if their names say so.
    """
    named = [value for name, value in variables.items() if _SECRET.search(name) and _is_secret(value)]
    keys = [Key(value) for value in {*named, variables.get(variable, "")} if value]

    def hide(text: str) -> str:
        for key in keys:
            text = key.hide(text)
        return _GIVEN.sub(lambda found: f"{found[1] or ''}{_MASK}", text)

    return hide


def _is_secret(value: str) -> bool:
    """Whether a variable with such a name is likely to hold the secret itself, and no word or file."""
    return len(value) >= _WHOLE and not value.startswith(("/", "~"))


def _forms(value: str) -> list[str]:
    """A key as a server or a library may repeat it."""
    if not value:
        return []
    texts = [value, to_json(value)[1:-1], repr(value)[1:-1], quote(value, safe=""), html.escape(value)]
    codes = [_inside(value, before) for before in range(3)]
    return list(dict.fromkeys(form for form in (*texts, *codes) if form))


def _inside(value: str, before: int) -> str:
    """What base64 makes of the key after some bytes, without what it shares with its neighbours."""
    coded = base64.b64encode(b"\0" * before + value.encode()).decode().rstrip("=")
    inner = coded[(8 * before + 5) // 6 :]
    return inner[:-1] if len(inner) > _PART else ""
