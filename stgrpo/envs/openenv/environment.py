"""The environment that the entry point names: tasks and layouts of a server, and sessions there.

A server of ours lists its tasks and layouts. Any other has one task, `default`, and layouts seed:N, its resets with
that seed. The states stay there, so there is neither a planner nor a way back to one.
"""

import re
from typing import Self
from urllib.parse import urlencode

from stgrpo.envs.layouts import first_layouts
from stgrpo.envs.openenv.pages import About, about, get_page
from stgrpo.envs.openenv.place import Place, read_place
from stgrpo.envs.openenv.session import RemoteSession
from stgrpo.errors import ServerError, UserError, nearest
from stgrpo.protocol import Instructions

KIND = "seed"
_STRIDE, _STARTS = 0x9E3779B1, 1 << 31
_LAST_DIGITS = {"train": "01234567", "validation": "8", "test": "9"}  # of a seed, by split


class OpenEnv:
    """The environment behind `stgrpo.envs.get("openenv", data=ADDRESS)`.

    Args:
        data: where the server is; it is asked when something is to be known.
    """

    def __init__(self, data: str = ""):
        self._place = read_place(data) if data else None

    def with_data(self, path: str) -> Self:
        """Returns the environment of the server at an address.

        Raises:
            UserError: it is none.
        """
        return type(self)(path)

    @property
    def _server(self) -> Place:
        if self._place is None:
            raise UserError("env.data is empty: openenv needs the address of a server, such as http://127.0.0.1:8000")
        return self._place

    @property
    def _about(self) -> About:
        return about(self._server)

    def tasks(self) -> tuple[str, ...]:
        """Returns the server's tasks."""
        return self._about.tasks

    def families(self) -> tuple[str, ...]:
        """Returns its families of layouts."""
        return self._about.families

    def benchmark_sets(self) -> tuple[str, ...]:
        """Returns the names of its sets of published layouts."""
        return tuple(self._about.sets)

    def benchmark_set(self, name: str, task: str) -> tuple[str, ...]:
        """Returns the layouts of one task in a set."""
        return self._about.sets.get(name, {}).get(task, ())

    def benchmark_layouts(self, task: str) -> tuple[str, ...]:
        """Returns those of all sets."""
        return tuple(layout for name in self._about.sets for layout in self.benchmark_set(name, task))

    def layouts(self, task: str, family: str, *, split: str, count: int, seed: int = 0) -> list[str]:
        """Lists the server's layouts, or seeds, of which a tenth is for validation and one for tests.

        Raises:
            UserError: there are fewer, or no such task, family or split.
            ServerError: the server is not there, or says what cannot be used.
        """
        for what, value, known in (("task", task, self.tasks()), ("family", family, self.families())):
            if value not in known:
                raise UserError(f"{what} {value!r}: unknown; {nearest(value, known)}")
        if not self._about.is_ours:
            numbers = range(seed * _STRIDE % _STARTS, _STARTS)
            seeds = (f"{KIND}:{number}" for number in numbers if str(number)[-1] in _LAST_DIGITS[split])
            return first_layouts(seeds, count, f"{split} seeds", seed=seed)
        query = urlencode({"task": task, "family": family, "split": split, "count": count, "seed": seed})
        said = (get_page(self._server, f"/stgrpo/layouts?{query}") or {}).get("layouts")
        if not isinstance(said, list) or not all(isinstance(name, str) for name in said) or len(said) != count:
            raise ServerError(f"{self._server}: it gives no {count} layouts of {task} {family}: is it another server?")
        return said

    def session(self, task: str, layout: str) -> "RemoteSession":
        """Makes a session; the server is asked for it by the first reset.

        Raises:
            UserError: there is no such task or layout.
        """
        if task not in self.tasks():
            raise UserError(f"task {task!r}: unknown; {nearest(task, self.tasks())}")
        kind, _, number = layout.partition(":")
        if not self._about.is_ours and (kind != KIND or not re.fullmatch("[0-9]{1,10}", number)):
            raise UserError(f'layout {layout!r}: unknown; use "{KIND}:N"')
        given = {"task": task, "layout": layout} if self._about.is_ours else {"seed": int(number)}
        return RemoteSession(self._server, self._about.action, given, (task, layout))

    def instructions(self) -> Instructions:
        """Returns what the server tells a model."""
        return self._about.instructions

    def object_names(self) -> tuple[str, ...]:
        """Returns the names of things in its texts, where it says them."""
        return self._about.object_names
