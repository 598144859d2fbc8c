"""What is known of the fields, for people: `python -m stgrpo.config.docs > docs/config.md`, and `stgrpo help FIELD`."""

import textwrap
from collections.abc import Iterator

from stgrpo.config.build import FIELDS, SECTIONS, WHOLE
from stgrpo.config.field import NOT_IN_PAPER, PAPER, Field, Number, Section
from stgrpo.config.names import suggest
from stgrpo.errors import UserError

_HEAD = """\
# Every field of the config

Made from the declarations in `stgrpo/config/` by `python -m stgrpo.config.docs > docs/config.md`: change them, not
this page. A field is changed in a config file (`c.grpo.kl_coef = 0.01`) or on the command line
(`--config.grpo.kl_coef=0.01`); `stgrpo help grpo.kl_coef` explains one, `stgrpo help grpo` a section. The column
"paper" says where a default comes from: the paper states it ("stated"), the paper leaves the question open and this is
our choice ("not in paper"), or it is not the method's matter (empty), as how servers are asked. [paper.md](paper.md)
gives the reasons of our choices.
"""
_WIDTH = 100
_NAME = 24  # columns of a name in a list


def page() -> str:
    """docs/config.md."""
    tables = [_table("The whole", "", WHOLE), *(_table(name, f"{name}.", part) for name, part in SECTIONS.items())]
    return "\n".join([_HEAD, *tables]).rstrip() + "\n"


def explain(name: str) -> str:
    """A field or a section as `stgrpo help` shows it.

    Raises:
        UserError: there is neither.
    """
    name = name.removeprefix("--").removeprefix("config.")
    if name in SECTIONS:
        return "\n".join(_list(name, SECTIONS[name]))
    if name in FIELDS:
        return "\n".join(_describe(name, FIELDS[name]))
    raise UserError(f"{name!r} is neither a command nor a field of the config: {suggest(name)} (stgrpo help)")


def _table(title: str, prefix: str, section: Section) -> str:
    rows = [f"| `{prefix}{name}` | {_row(field)} |" for name, field in section.fields.items()]
    head = ["| Field | Default | Meaning | Values | Paper |", "|---|---|---|---|---|"]
    return "\n".join([f"## {title}", "", section.meaning, "", *head, *rows, ""])


def _row(field: Field) -> str:
    cells = (f"`{_literal(field.default)}`", field.meaning, field.limits() + _unit(field), field.source)
    return " | ".join(cell.replace("|", "\\|") for cell in cells)


def _list(name: str, section: Section) -> Iterator[str]:
    yield f"{name}: {section.meaning}"
    yield ""
    for leaf, field in section.fields.items():
        about = f"{_literal(field.default)}{_unit(field)}: {field.meaning}".replace("`", "")
        yield textwrap.fill(f"  {leaf:{_NAME}}{about}", _WIDTH, subsequent_indent=" " * (_NAME + 2))
    yield ""
    yield f"More of one: stgrpo help {name}.{next(iter(section.fields))}"


def _describe(name: str, field: Field) -> Iterator[str]:
    sources = {PAPER: "stated in the paper", NOT_IN_PAPER: "not in the paper: our choice"}
    facts = {
        "meaning": field.meaning,
        "default": _literal(field.default) + _unit(field),
        "values": field.limits(),
        "paper": sources.get(field.source, ""),
        "elsewhere": ", ".join(field.also),
        "change it": f"--config.{name}=VALUE, or c.{name} = VALUE in a config file",
    }
    yield name
    for title, text in facts.items():
        if text:
            shown = text.replace("`", "")
            yield textwrap.fill(f"  {title:{12}}{shown}", _WIDTH, subsequent_indent=" " * 14, break_long_words=False)


def _unit(field: Field) -> str:
    return f" {field.unit}" if isinstance(field, Number) and field.unit else ""


def _literal(value: object) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value).replace("'", '"')


if __name__ == "__main__":
    print(page(), end="")
