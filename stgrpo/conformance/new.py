"""The package of a new environment, written from the templates in `skeleton/`."""

import importlib.util
import keyword
import re
from collections.abc import Collection
from pathlib import Path
from string import Template

from stgrpo.errors import UserError
from stgrpo.files import replacing

_TEMPLATES = Path(__file__).parent / "skeleton"
_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "config.py": "config.py",
    "module.py": "{name}.py",
    "test.py": "test_{name}.py",
}
_LONGEST = 50


def new_environment(name: str, folder: Path, known: Collection[str]) -> Path:
    """Writes a package: pyproject.toml with the entry point, module, config, tests and README.

    Args:
        name: of the environment, and of its module.
        folder: in which a folder of that name is made.
        known: names of environments that there are.

    Returns:
        The folder of the package.

    Raises:
        UserError: the name cannot be that of a module or is taken, or the folder is there.
    """
    _check_name(name, known)
    package = folder / name
    if package.exists() or package.is_symlink():
        raise UserError(f"{package} is there already: choose another name, or move it away")
    if not folder.is_dir():
        raise UserError(f"--folder={folder} is no folder: make it, or give one that there is")
    if importlib.util.find_spec(name) is not None:
        raise UserError(f"there is a module {name!r} already, which yours would hide: choose another name")
    class_name = "".join(part.capitalize() for part in name.split("_"))
    words = {"name": name, "class_name": class_name, "title": name.replace("_", " ").capitalize()}
    with replacing(package) as unfinished:
        unfinished.mkdir()
        for template, file in _FILES.items():
            text = Template((_TEMPLATES / f"{template}.txt").read_text("utf-8")).substitute(words)
            (unfinished / file.format(name=name)).write_text(text, encoding="utf-8")
    return package


def _check_name(name: str, known: Collection[str]) -> None:
    if not re.fullmatch("[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name) or len(name) > _LONGEST:
        shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
        raise UserError(
            f"the name {shown!r} cannot be that of a module: use small letters, digits and single underscores, such as "
            f"my_maze, at most {_LONGEST}, and no word of Python's"
        )
    if name in known:
        raise UserError(f"there is an environment {name!r} already: choose another name")
