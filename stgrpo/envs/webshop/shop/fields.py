"""Fields of a record from a file, each looked at when it is taken."""

from typing import Any

from stgrpo.errors import UserError

_REQUIRED = object()


class Fields:
    """The fields of a record.

    Args:
        record: as it was read.
        where: file and line, for messages.

    Raises:
        UserError: it has no fields at all.
    """

    def __init__(self, record: object, where: str):
        if not isinstance(record, dict):
            raise UserError(f"{where}: {str(record)[:40]!r} is no JSON object: copy the file again")
        self._record, self.where = record, where

    def has(self, key: str) -> bool:
        """Says whether there is such a field."""
        return key in self._record

    def value(self, key: str, default: Any = _REQUIRED) -> Any:
        """Returns a field of any kind.

        Raises:
            UserError: it is missing, and there is no default.
        """
        if key in self._record:
            return self._record[key]
        if default is _REQUIRED:
            name = self._record.get("asin", self._record.get("id", ""))
            raise UserError(f"{self.where}: {name or 'record'} has no {key}: copy the file again, or add it")
        return default

    def text(self, key: str) -> str:
        """Returns a field that is a text.

        Raises:
            UserError: it is missing, or none.
        """
        value = self.value(key)
        if not isinstance(value, str):
            raise UserError(f"{self.where}: {key} is {str(value)[:40]!r}, not a text")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """Returns a field that is a list of texts.

        Raises:
            UserError: it is missing, or none.
        """
        value = self.value(key)
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise UserError(f"{self.where}: {key} is {str(value)[:40]!r}, not a list of texts")
        return tuple(value)

    def parts(self, key: str) -> list["Fields"]:
        """Returns a field that is a list of records.

        Raises:
            UserError: it is missing, or none.
        """
        value = self.value(key)
        if not isinstance(value, list):
            raise UserError(f"{self.where}: {key} is {str(value)[:40]!r}, not a list")
        return [Fields(item, self.where) for item in value]

    def part(self, key: str) -> "Fields":
        """Returns a field that is a record itself.

        Raises:
            UserError: it is missing, or none.
        """
        value = self.value(key)
        if not isinstance(value, dict):
            raise UserError(f"{self.where}: {key} is {str(value)[:40]!r}, not an object")
        return Fields(value, self.where)

    def names(self) -> tuple[str, ...]:
        """Returns the names of the fields."""
        return tuple(self._record)

    def with_value(self, key: str, value: object) -> "Fields":
        """Returns the same record with one field set."""
        return Fields({**self._record, key: value}, self.where)
