"""What `make quick` runs: a fixed core, and the tests of what changed, until the time is up.

    python tests/helpers/quick.py [--against=main] [--seconds=110] [--list]

A test file belongs to a change if it changed itself, or if it imports a module that did; so nothing is listed by hand
but the core. What changed is what differs from where the branch left `--against`, committed or not. Slow tests
are never run, and when the time is up the rest is skipped and named: `make test` runs it.
"""

import argparse
import ast
import pathlib
import subprocess
import sys
import time

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
CORE = (
    "tests/test_imports.py",
    "tests/envs/robotouille/kitchen/test_parity.py",
    "tests/react",
    "tests/test_config.py",
    "tests/training/test_masked.py",
    "tests/sampling/test_base.py",
)


class Deadline:
    """A plug-in of pytest: skips what would begin after so many seconds."""

    def __init__(self, seconds: float):
        self._until, self._left_out = time.monotonic() + seconds, set()

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if time.monotonic() > self._until:
            self._left_out.add(str(item.path.relative_to(REPOSITORY)))
            pytest.skip("out of time")

    def pytest_terminal_summary(self, terminalreporter) -> None:
        if self._left_out:
            terminalreporter.write_line(f"out of time; not or not wholly run: {' '.join(sorted(self._left_out))}")


def imported(path: pathlib.Path) -> set[str]:
    """The dotted names that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def select(changed: list[str], root: pathlib.Path = REPOSITORY) -> list[str]:
    """The test files of changed files, all given relative to the repository."""
    modules = {path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in changed}
    chosen = []
    for test in sorted((root / "tests").rglob("test_*.py")):
        name = test.relative_to(root).as_posix()
        if name in changed or imported(test) & modules:
            chosen.append(name)
    return chosen


def changed_files(against: str) -> list[str]:
    """Files that differ from where the branch left `against`, and those that git does not know yet."""
    base = _git("merge-base", against, "HEAD") or ["HEAD"]
    return [*_git("diff", "--name-only", base[0]), *_git("ls-files", "--others", "--exclude-standard")]


def _git(*words: str) -> list[str]:
    done = subprocess.run(["git", *words], cwd=REPOSITORY, capture_output=True, text=True)
    return done.stdout.split() if done.returncode == 0 else []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--against", default="main", help="the branch that changes are counted from")
    parser.add_argument("--seconds", type=float, default=110)
    parser.add_argument("--list", action="store_true", help="say what would be run")
    args = parser.parse_args()
    mine = [name for name in select(changed_files(args.against)) if not name.startswith(CORE)]
    if args.list:
        print(*CORE, *mine, sep="\n")
        return 0
    command = ["-m", "not slow", "--failed-first", *CORE, *mine]
    return pytest.main(command, plugins=[Deadline(args.seconds)])


if __name__ == "__main__":
    sys.exit(main())
