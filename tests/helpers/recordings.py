"""What the benchmark's own engine did, in two forms: the full recordings, and what of them is in the repository.

    python tests/helpers/recordings.py [--traces=../shared/traces]

makes `tests/data/robotouille` anew from the full recordings: all layouts, the actions of each episode, and a digest of
each recorded line. A digest is of what a replay must show at this line, byte for byte: the observation, the valid
actions in order, all true predicates, the effects under way and whether the goal holds after the action.
"""

import argparse
import base64
import gzip
import hashlib
import json
import lzma
import pathlib
import re
from collections.abc import Iterable, Iterator
from itertools import groupby

from stgrpo.envs.robotouille import RobotouilleProblem, State, load

HERE = pathlib.Path(__file__).resolve()
DATA = HERE.parents[1] / "data" / "robotouille"
FULL = HERE.parents[3] / "shared" / "traces"
LAYOUT_FILES = ("default_layouts", "benchmark_layouts", "layouts", "layouts_wildcard")
REBUILT = "rebuilt_layouts"
TRACE_FILES = {  # name -> number of lines
    "expert": 504,
    "layouts": 3908,
    "synchronous": 4018,
    "asynchronous": 3280,
    "base_composite": 1276,
    "chef": 2624,
    "scripted": 198,
}
_KEPT = ("task", "layout", "seed", "max_steps", "optimal_steps", "n_optimal_plans", "env_json")
_EPISODE = ("task", "layout", "seed", "policy", "ep")
_GIVEN = ("iscooked", "iscookable", "iscut", "iscuttable", "isfried", "isfryable", "isfryableifcut")
_DIGEST_BYTES = 12
Line = dict
Identity = tuple


class Traces:
    """The full recordings: text and all."""

    def __init__(self, directory: pathlib.Path):
        self._directory = directory

    def read(self, name: str) -> list[Line]:
        with gzip.open(self._directory / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    def layouts(self) -> Iterator[Line]:
        """Yields what the repository keeps of each layout, those that were recorded only as a run among them."""
        for name in LAYOUT_FILES:
            for line in self.read(name):
                yield {"file": name, **{key: line[key] for key in _KEPT if key in line}}
        for (task, layout, seed), env in self._rebuilt().items():
            yield {"file": REBUILT, "task": task, "layout": layout, "seed": seed, "env_json": env}

    def episodes(self, name: str) -> Iterator[tuple[dict, list[Line]]]:
        """Yields (environment JSON, lines) of each recorded episode."""
        known = kitchens(self.layouts())
        for identity, lines in _by_episode(self.read(f"traces_{name}")):
            yield known[identity[:3]], lines

    def summaries(self) -> Iterator[Line]:
        """Yields what the repository keeps of each episode: its actions, and the digests of its lines."""
        for name in TRACE_FILES:
            for identity, lines in _by_episode(self.read(f"traces_{name}")):
                digests = base64.b64encode(b"".join(map(_recorded_digest, lines))).decode()
                actions = [line["action"] for line in lines]
                yield {
                    "file": name,
                    **dict(zip(_EPISODE, identity, strict=True)),
                    "actions": actions,
                    "digests": digests,
                }

    def _rebuilt(self) -> dict[Identity, dict]:
        given = kitchens(line for name in LAYOUT_FILES for line in self.read(name))
        rebuilt: dict[Identity, dict] = {}
        for name in TRACE_FILES:
            for identity, lines in _by_episode(self.read(f"traces_{name}")):
                kitchen = identity[:3]
                if kitchen not in given and kitchen not in rebuilt:
                    rebuilt[kitchen] = _rebuild(lines[0], given[kitchen[0], "default", None])
        return rebuilt


class Recordings:
    """What of the recordings is in the repository. Text is our engine's, and proven to be theirs before it is given."""

    def __init__(self, directory: pathlib.Path = DATA):
        self.layout_lines = read_lines(directory / "layouts.jsonl.xz")
        self.episode_lines = read_lines(directory / "episodes.jsonl.xz")

    def layouts(self, file: str) -> list[Line]:
        return [line for line in self.layout_lines if line["file"] == file]

    def kitchens(self) -> dict[Identity, dict]:
        """Returns (task, layout, seed) -> environment JSON, of all that the benchmark or its generator made."""
        return kitchens(line for line in self.layout_lines if line["file"] != REBUILT)

    def episodes(self, name: str) -> Iterator[tuple[dict, list[Line]]]:
        """Yields (environment JSON, lines) of each recorded episode; the lines have no `sfx`, `player` and `reward`.

        Raises:
            AssertionError: our engine does not show what the benchmark's did.
        """
        known = kitchens(self.layout_lines)
        for episode in self.episode_lines:
            if episode["file"] == name:
                env = known[episode["task"], episode["layout"], episode["seed"]]
                yield env, list(replay(load(env), episode))

    def lines(self, name: str) -> Iterator[Line]:
        """Yields the lines of all episodes of a file."""
        for _, lines in self.episodes(name):
            yield from lines


def read_lines(path: pathlib.Path) -> list[Line]:
    with lzma.open(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def write_lines(path: pathlib.Path, lines: Iterable[Line]) -> None:
    with lzma.open(path, "wt", preset=9 | lzma.PRESET_EXTREME, encoding="utf-8") as file:
        file.writelines(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines)


def kitchens(layouts: Iterable[Line]) -> dict[Identity, dict]:
    """Returns (task, layout, seed) -> environment JSON; a layout is a default one where it has no seed."""
    found = {}
    for line in layouts:
        layout = line.get("layout", "random" if "seed" in line else "default")
        found[line["task"], layout, line.get("seed")] = line["env_json"]
    return found


def replay(problem: RobotouilleProblem, episode: Line) -> Iterator[Line]:
    """Plays the actions of an episode, and yields its lines as our engine has them.

    Raises:
        AssertionError: a line has another digest; with the trace, the step and what our engine says.
    """
    state, digests = problem.initial_state(), base64.b64decode(episode["digests"])
    assert len(digests) == _DIGEST_BYTES * len(episode["actions"]), f"{_named(episode)}: actions and digests differ"
    for step, action in enumerate(episode["actions"]):
        after = state if action is None else problem.step(state, action)
        shown = _shown(problem, state, problem.is_goal(after))
        if digest(*shown) != digests[step * _DIGEST_BYTES : (step + 1) * _DIGEST_BYTES]:
            raise AssertionError(f"{_named(episode)}, step {step}: the benchmark's engine differs; {_said(*shown)}")
        observation, valid, predicates, _, done = shown
        line = {key: episode[key] for key in _EPISODE} | {"step": step, "obs": observation, "preds": predicates}
        yield line | {"valid": sorted(valid), "action": action, "done": done}
        state = after


def digest(observation: str, valid: list, predicates: list, effects: list, done: bool) -> bytes:
    whole = json.dumps([observation, valid, predicates, effects, done], separators=(",", ":"))
    return hashlib.blake2b(whole.encode(), digest_size=_DIGEST_BYTES).digest()


def effects_of(recorded: list[dict]) -> list[list]:
    """Returns [what it is about, its count, whether it is done] of each recorded effect under way."""
    nested = [effect.get("then", [{}])[0] for effect in recorded]
    return [[e["arg"], e.get("n", n.get("t", 0)), e["done"]] for e, n in zip(recorded, nested, strict=True)]


def _shown(problem: RobotouilleProblem, state: State, done: bool) -> tuple[str, list, list, list, bool]:
    effects = [[pending.effect.split()[0], pending.count, pending.done] for pending in state.pending]
    return problem.observation(state), list(problem.valid_actions(state)), problem.predicates(state), effects, done


def valid_in_order(observation: str) -> list[str]:
    return observation.split("\n\nValid Actions:\n")[1].split("\n\nGoal: ")[0].split("\n")


def _recorded_digest(line: Line) -> bytes:
    return digest(line["obs"], valid_in_order(line["obs"]), line["preds"], effects_of(line["sfx"]), line["done"])


def _named(episode: Line) -> str:
    task, layout, seed, policy, number = (episode[key] for key in _EPISODE)
    return f"{episode['file']}: {task}, {layout} layout, seed {seed}, policy {policy}, episode {number}"


def _said(observation: str, valid: list, predicates: list, effects: list, done: bool) -> str:
    told = {"valid actions": valid, "predicates": predicates, "effects under way": effects, "goal reached after": done}
    return "\n".join(["ours says:", observation, *(f"{name}: {value}" for name, value in told.items())])


def _by_episode(lines: list[Line]) -> Iterator[tuple[Identity, list[Line]]]:
    for identity, group in groupby(lines, lambda line: tuple(line[key] for key in _EPISODE)):
        yield identity, list(group)


def _rebuild(first: Line, goal: dict) -> dict:
    """Makes an environment JSON whose start is that of a recorded line.

    Stations go into a row of cells in the order in which they are listed; what is held has a cell between those of the
    items listed before and after it.
    """
    names = re.findall(r"^(?:Station|Item) (\w+):$", first["obs"], re.M)
    facts = [(match[1], match[2].split(",")) for match in (re.match(r"(\w+)\((.*)\)", p) for p in first["preds"])]
    at = {args[0]: args[1] for name, args in facts if name == "item_at"}
    below = {args[0]: args[1] for name, args in facts if name == "atop"}
    own = {name: [p for p, args in facts if args == [name] and p in _GIVEN] for name in names}
    stations = [name for name in names if any(name == args[-1] for p, args in facts if p in ("vacant", "loc"))]
    row = {station: 2 * number for number, station in enumerate(stations)}
    items, robot_x, last = [], -1, -1
    for name in names[len(stations) :]:
        level, under = 0, below.get(name)
        while under is not None:
            level, under = level + 1, below.get(under)
        if name in at:
            last = row[at[name]]
        else:
            robot_x = last + 1
        x, y = (last, 0) if name in at else (robot_x, 5)
        items.append({"name": name.rstrip("0123456789"), "x": x, "y": y, "stack-level": level, "predicates": own[name]})
    here = row[next(args[1] for name, args in facts if name == "loc")]
    return {
        "stations": [{"name": name.rstrip("0123456789"), "x": row[name], "y": 0} for name in stations],
        "items": items,
        "players": [{"name": "robot", "x": robot_x, "y": 5, "direction": [here - robot_x, -5]}],
        "goal": goal["goal"],
        "goal_description": goal["goal_description"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--traces", type=pathlib.Path, default=FULL)
    traces = Traces(parser.parse_args().traces)
    for name, lines in (("layouts", traces.layouts()), ("episodes", traces.summaries())):
        path = DATA / f"{name}.jsonl.xz"
        write_lines(path, lines)
        print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
