"""The rooms of the package and their floors: nothing imports what stands above it, and no two folders each other."""

import ast
import graphlib
import pathlib
import re
from collections.abc import Iterator

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "stgrpo"
ARCHITECTURE = PACKAGE.parent / "docs" / "architecture.md"
FLOORS = (
    ("errors", "files", "console", "protocol", "processes"),
    ("envs",),
    ("react", "env_server"),
    ("data",),
    ("models",),
    ("serving",),
    ("sampling",),
    ("config",),
    ("workdir",),
    ("training", "sweeps"),
    ("evaluation",),
    ("rl",),
    ("monitors", "report"),
    ("experts", "comparison"),
    ("plan", "conformance", "analysis"),
    ("stages",),
    ("command_line",),
    ("cli",),
    ("__main__",),
)
"""From the ground up, as docs/architecture.md draws them; on one floor only the ground's rooms know each other."""
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def modules() -> Iterator[tuple[str, pathlib.Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
        yield name.removesuffix(".__init__"), path


def imported(path: pathlib.Path, known: set[str]) -> set[str]:
    """Modules of ours that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert not node.level, f"{path}: relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inner & known) or {node.module}
    return found & known


def edges() -> dict[str, set[str]]:
    files = dict(modules())
    return {name: imported(path, set(files)) for name, path in files.items()}


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_a_floor():
    rooms = {room(name) for name, _ in modules()} - {""}
    assert rooms <= set(FLOOR_OF), f"put it on a floor: {sorted(rooms - set(FLOOR_OF))}"


def test_nothing_imports_what_stands_above_it():
    up = [
        f"{name} imports {other}"
        for name, others in edges().items()
        for other in sorted(others)
        if room(name) and room(other) and room(name) != room(other) and FLOOR_OF[room(other)] >= FLOOR_OF[room(name)]
        if FLOOR_OF[room(name)] > 0 or FLOOR_OF[room(other)] > 0
    ]
    assert up == []


def test_no_circle_between_modules():
    tuple(graphlib.TopologicalSorter(edges()).static_order())


def test_no_circle_between_folders():
    """At every level: of the folders and files of one folder, none imports another that imports it."""
    graphs: dict[str, dict[str, set[str]]] = {}
    for name, others in edges().items():
        for other in others:
            mine, its = name.split("."), other.split(".")
            common = next((i for i, (a, b) in enumerate(zip(mine, its, strict=False)) if a != b), None)
            if common is not None:
                parent = ".".join(mine[:common])
                graphs.setdefault(parent, {}).setdefault(mine[common], set()).add(its[common])
    for parent, graph in graphs.items():
        try:
            tuple(graphlib.TopologicalSorter(graph).static_order())
        except graphlib.CycleError as error:
            raise AssertionError(f"{parent}: {' imports '.join(reversed(error.args[1]))}") from error


def test_environments_are_known_by_their_entry_points_alone():
    """No room but `envs` imports a particular environment."""
    inside = [
        f"{name} imports {other}"
        for name, others in edges().items()
        if not name.startswith("stgrpo.envs.")
        for other in sorted(others)
        if other.count(".") >= 2
        and other.startswith("stgrpo.envs.")
        and (PACKAGE / "envs" / other.split(".")[2]).is_dir()
    ]
    assert inside == []


def test_the_document_has_these_floors():
    """Its table row by row, and its picture: every room but the last is in it, and each arrow leads upward."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*) \| (.*) \|$", text, re.M)
    told = [(int(number), tuple(re.findall(r"`(\w+)`", rooms)), below) for number, rooms, below in rows]
    below = ["each other", "0", *(f"0-{number - 1}" for number in range(2, len(FLOORS)))]
    assert told == [(number, rooms, below[number]) for number, rooms in enumerate(FLOORS)]
    picture = text.split("```mermaid")[1].split("```")[0]
    named = dict(re.findall(r'^  (\w+)\["([^":]+)', picture, re.M))
    drawn = {node: tuple(rooms.split(" · ")) for node, rooms in named.items()}
    assert sorted(room for rooms in drawn.values() for room in rooms) == sorted(set(FLOOR_OF) - {"__main__"})
    for chain in re.findall(r"^  (\w+(?: --> \w+)+)$", picture, re.M):
        floors = [FLOOR_OF[drawn[node][0]] for node in chain.split(" --> ")]
        assert floors == sorted(set(floors)), chain
