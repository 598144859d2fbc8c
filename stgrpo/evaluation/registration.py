"""What an evaluation will be, written with its hash before the first episode is played: protocols.jsonl, a line each.

A protocol is all that has to be the same for two policies to be compared: layouts, engine, failures, decoding, what an
unusable answer does, how figures are defined. Beside it stands who plays, with the sum of the weights. Lines are only
ever added, so a set of layouts that was played otherwise before, or by other policies, shows that.
"""

import dataclasses
import datetime
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from stgrpo.config.environments import environment_of
from stgrpo.console import say
from stgrpo.envs.sessions import open_session
from stgrpo.evaluation.metrics import REVISION
from stgrpo.evaluation.suites import Suite, play_settings, suite_layouts
from stgrpo.files import from_json, json_digest, read_lines, to_json, write_atomically
from stgrpo.protocol import PureEnvironment
from stgrpo.workdir.folder import PROTOCOLS
from stgrpo.workdir.keys import KEY

_OF_THE_POLICY = ("seed", "limits")


@dataclasses.dataclass(frozen=True)
class Registration:
    """A line of the file.

    Attributes:
        evaluation: its name, such as "grpo_unseen".
        date: when it was written.
        hash: of protocol and policy.
        protocol: see above, as JSON.
        policy: who plays, as JSON.
    """

    evaluation: str
    date: str
    hash: str
    protocol: Mapping[str, Any]
    policy: Mapping[str, Any]

    def of_task(self, task: str) -> dict[str, Any]:
        """The protocol in what one task has of it."""
        return {**self.protocol, "layouts": self.protocol["layouts"].get(task)}


def register(directory: Path, name: str, config: ConfigDict, suite: Suite, settings: Mapping[str, object]) -> str:
    """Writes down what is about to be played, unless that stands there already. The first process alone may.

    Args:
        directory: of the results.
        name: of the evaluation.
        config: it is made by.
        suite: that is played.
        settings: of the result.

    Returns:
        The hash.
    """
    protocol = protocol_of(config, suite)
    shared = {*play_settings(config, suite), KEY} - {*_OF_THE_POLICY}
    policy = from_json(to_json({k: v for k, v in settings.items() if k not in shared}))
    found = json_digest({"protocol": protocol, "policy": policy})
    there = list(read_registrations(directory))
    if not any((line.evaluation, line.hash) == (name, found) for line in there):
        date = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        lines = [*there, Registration(name, date, found, protocol, policy)]
        directory.mkdir(parents=True, exist_ok=True)
        text = "".join(to_json({"stage": "evaluate", **dataclasses.asdict(line)}) + "\n" for line in lines)
        write_atomically(directory / PROTOCOLS, text)
    return found


def say_registered(hashes: Mapping[str, str]) -> None:
    """Says under which protocols evaluations, by their names, are about to be played."""
    for name, found in hashes.items():
        say(f"evaluate {name}: protocol {found}, written to {PROTOCOLS} before the first episode")


def read_registrations(directory: Path) -> Iterator[Registration]:
    """The lines of a directory of results; none where there is no file.

    Raises:
        UserError: a line is no JSON object.
    """
    names = [field.name for field in dataclasses.fields(Registration)]
    for line in read_lines(directory / PROTOCOLS):
        if all(name in line for name in names):
            yield Registration(*(line[name] for name in names))


def protocol_of(config: ConfigDict, suite: Suite) -> dict[str, Any]:
    """How a suite is played and counted, whoever plays it, as JSON has it."""
    how = {k: v for k, v in play_settings(config, suite).items() if k not in _OF_THE_POLICY}
    how["suite"] = {"name": suite.name, "family": suite.family, "split": suite.split}
    how |= {"response": config.limits.response, "figures": REVISION, "layouts": _layouts(config, suite)}
    return from_json(to_json(how))


def _layouts(config: ConfigDict, suite: Suite) -> dict[str, dict[str, object]]:
    """Of each task the number of its layouts and a digest of them: of names, and of what the first state shows.

    Environments whose every start costs something are asked for names alone.
    """
    environment = environment_of(config)  # every engine shows the same
    found: dict[str, list[str]] = {}
    for task, layout in suite_layouts(environment, suite):
        shown = ""
        if isinstance(environment, PureEnvironment):
            with closing(open_session(environment, task, layout)) as session:
                shown = session.reset().observation
        found.setdefault(task, []).append(f"{layout}\n{shown}")
    return {task: {"count": len(texts), "digest": json_digest(texts)} for task, texts in found.items()}
