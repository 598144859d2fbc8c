"""What a process that does not speak prints goes into a file of its own."""

import os
import sys
from pathlib import Path

from stgrpo import processes

_files: list[str] = []


def keep(folder: Path) -> None:
    """Turns standard output and error of every process but the first into FOLDER/process-ID.log, from here on."""
    if processes.is_first():
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = os.open(folder / f"process-{processes.index()}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(file, stream.fileno())
    os.close(file)
    _files.append(str(folder))


def complain(text: str) -> None:
    """One line on standard error: in the first process, and in the log of any other that has one by now."""
    if processes.is_first() or _files:
        print(f"stgrpo: {text}", file=sys.stderr, flush=True)
