"""The shared part of the comparisons with google-tunix: the problem, the peer's process, and timing both in turns."""

import argparse
import dataclasses
import json
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np

from stgrpo.models.shapes import ModelShape
from stgrpo.models.transformer import Transformer

SHAPE = ModelShape(vocab_size=4096, width=256, depth=4, heads=4, kv_heads=2, head_dim=64, mlp_width=1024)
B, G, P, R = 8, 8, 512, 64

Seconds = dict[str, float]


class Peer:
    """A process with the peer's package, asked one thing at a time."""

    def __init__(self, python: str):
        self._log = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [python, str(Path(__file__).with_name("peer_tunix.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
        )

    def ask(self, do: str, **arguments: object) -> dict:
        """Sends a request and waits for its answer.

        Raises:
            RuntimeError: the process has died; with what it said last.
        """
        assert self._process.stdin and self._process.stdout  # both are pipes
        print(json.dumps({"do": do, "arguments": arguments}), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            self._log.seek(0)
            raise RuntimeError(f"the peer died at {do!r}:\n{self._log.read()[-2000:]}")
        return json.loads(answer)

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


@dataclasses.dataclass(frozen=True)
class Scratch:
    """A folder through which weights and batches reach the peer."""

    folder: Path

    def save(self, name: str, **arrays: np.ndarray) -> str:
        path = self.folder / f"{name}.npz"
        np.savez(path, **arrays)
        return str(path)

    def weights(self, model: Transformer) -> str:
        """All parameters under our own names, those of layers stacked."""
        flat, _ = jax.tree_util.tree_flatten_with_path(model)
        names = [[k.name for k in path if isinstance(k, jax.tree_util.GetAttrKey)] for path, _ in flat]
        named = {[n for n in name if n != "value"][-1]: np.asarray(x) for name, (_, x) in zip(names, flat, strict=True)}
        return self.save("weights", **named)


def parse(doc: str | None) -> argparse.Namespace:
    """The options that the comparisons share."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", default="", help="interpreter of an environment with google-tunix")
    parser.add_argument(
        "--repeats", type=int, default=3, help="timed runs of each, taken in turns; medians are printed"
    )
    parser.add_argument("--only", default="", help="figures to print, by comma; empty for all")
    return parser.parse_args()


def scratch() -> Scratch:
    """A folder that is deleted with the process."""
    folder = tempfile.TemporaryDirectory()
    kept = Scratch(Path(folder.name))
    _FOLDERS.append(folder)
    return kept


_FOLDERS: list[tempfile.TemporaryDirectory] = []


def timed(call: Callable[[], object]) -> Seconds:
    """Wall and CPU seconds of a call; the latter of all threads of this process."""
    wall, cpu = time.perf_counter(), time.process_time()
    jax.block_until_ready(call())
    return {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}


def in_turns(ours: Callable[[], object], theirs: Callable[[], Seconds] | None, repeats: int) -> tuple[Seconds, Seconds]:
    """Medians of several runs, ours and the peer's alternating, each after one run that is not counted."""
    ours()
    if theirs:
        theirs()
    mine, other = [], []
    for _ in range(repeats):
        mine.append(timed(ours))
        if theirs:
            other.append(theirs())
    return _medians(mine), _medians(other)


def _medians(runs: list[Seconds]) -> Seconds:
    return {k: statistics.median(r[k] for r in runs) for k in ("wall_s", "cpu_s")} if runs else {}


def say(figure: str, **values: object) -> None:
    """One JSON line."""
    short = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in values.items()}
    print(json.dumps({"figure": figure} | short), flush=True)


def compare(ours: Seconds, theirs: Seconds) -> dict[str, float]:
    """Both times and their ratio, by wall and by CPU time."""
    line = {f"ours_{k}": v for k, v in ours.items()} | {f"peer_{k}": v for k, v in theirs.items()}
    return line | {f"ratio_{k.removesuffix('_s')}": theirs[k] / ours[k] for k in theirs}
