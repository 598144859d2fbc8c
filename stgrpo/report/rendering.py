"""Templates and what stands beside them in files; whatever a template is given is escaped, but for `Markup`."""

import pathlib

import jinja2
from markupsafe import Markup

from stgrpo.report import text

_FOLDER = pathlib.Path(__file__).parent
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {
    "decimals": text.decimals,
    "interval": text.interval,
    "money": text.money,
    "number": text.number,
    "percent": text.percent,
    "steps": text.steps,
}


def render(template: str, **views: object) -> str:
    """The HTML of one template.

    Args:
        template: the name of a file in templates/.
        views: what it lays out, by the names it uses.
    """
    return _TEMPLATES.get_template(template).render(views)


def asset(name: str) -> Markup:
    """The content of a file in assets/, to stand inside the page."""
    return Markup((_FOLDER / "assets" / name).read_text(encoding="utf-8"))
