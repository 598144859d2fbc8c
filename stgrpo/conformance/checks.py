"""What the protocol asks of every environment: lists, texts, determinism, purity, splits.

A check is a function of a `Subject` that returns what it looked at, in a few words.
"""

import hashlib
import os
import subprocess
import sys
from collections.abc import Hashable, Sequence
from contextlib import closing
from dataclasses import asdict

from stgrpo import envs
from stgrpo.conformance.subject import Case, Failed, Subject, Walk, walk
from stgrpo.data.records import Step, Trajectory
from stgrpo.envs.sessions import open_session
from stgrpo.errors import UserError
from stgrpo.files import from_json, to_json
from stgrpo.protocol import (
    SPLITS,
    Environment,
    InvalidAction,
    Observed,
    Problem,
    PureEnvironment,
    Session,
    SessionEnvironment,
    benchmark_set_of,
    benchmark_sets_of,
    instructions_of,
    object_names_of,
)
from stgrpo.react.prompt import PromptStyle, render_messages
from stgrpo.react.response import ParsedResponse, format_response, parse_response

NONSENSE = "no action has this name"
_OTHER_PROCESS = """\
import sys
from stgrpo.conformance.checks import digest
from stgrpo.conformance.subject import Case
from stgrpo import envs
name, engine, data, *cases = sys.argv[1:]
print(digest(envs.get(name, engine=engine, data=data), [Case(*case.split("\\t")) for case in cases]))
"""
_MOST_IN_ANOTHER_PROCESS = 20


def lists(subject: Subject) -> str:
    """Tasks, families and layouts have names, each once, and the same lists come again; others are refused."""
    environment = subject.environment
    if not isinstance(environment, PureEnvironment | SessionEnvironment):
        raise Failed(f"{type(environment).__name__} has neither make nor session: give it one")
    for what, names in (("tasks", environment.tasks()), ("families", environment.families())):
        _require_names(f"{what}()", names)
    listed = subject.listed
    if not listed.cases:
        raise Failed(f"no layouts of any task and family: {'; '.join(listed.refused[:1]) or 'the time was up'}")
    if listed.short:
        raise Failed(listed.short[0])
    _check_repeats(subject)
    for name in benchmark_sets_of(environment):
        for task in subject.tasks:
            _check_benchmark(environment, name, task)
    _check_refusals(environment, listed.cases[0])
    return f"{len(listed.cases)} layouts{_exceptions(listed.refused, listed.left_out)}"


def _exceptions(refused: Sequence[str], left_out: int) -> str:
    said = f"; {len(refused)} lists refused, the first: {refused[0]}" if refused else ""
    return said + (f"; {left_out} left out, as the time was up" if left_out else "")


def _require_names(what: str, names: Sequence[str]) -> None:
    if not isinstance(names, tuple | list) or not all(isinstance(n, str) and n and n.strip() == n for n in names):
        raise Failed(f"{what} gives {names!r}: give a tuple of names")
    if not names or len(set(names)) < len(names):
        raise Failed(f"{what} gives {names!r}: give one or more names, each once")


def _check_repeats(subject: Subject) -> None:
    """Lists of another copy of the environment are the same, longer ones begin with the shorter."""
    first = subject.listed.cases[0]
    cases = [c for c in subject.listed.cases if (c.task, c.family, c.split) == (first.task, first.family, first.split)]
    seed, count = subject.scope.seeds[0], subject.scope.layouts
    mine = [case.layout for case in cases][:count]
    _require_names(f"layouts({first.task!r}, {first.family!r})", mine)
    again = subject.make().layouts(first.task, first.family, split=first.split, count=count, seed=seed)
    if list(again) != mine:
        raise Failed(f"layouts({first.task!r}, {first.family!r}, seed={seed}) gives {mine}, and then {list(again)}")


def _check_benchmark(environment: Environment, name: str, task: str) -> None:
    try:
        layouts = benchmark_set_of(environment, name, task)
    except UserError:
        return  # it needs data that are not at hand
    if layouts:
        _require_names(f"benchmark layouts of {task!r} in {name!r}", layouts)


def _check_refusals(environment: Environment, case: Case) -> None:
    """A name that there is not is a mistake of the user's, told as one."""
    for task, layout in ((case.task, NONSENSE), (NONSENSE, case.layout)):
        try:
            with closing(open_session(environment, task, layout)) as session:
                session.reset()
        except UserError as error:
            if "\n" in str(error):
                raise Failed(f"the error for {task!r} {layout!r} has several lines: {error}") from error
        else:
            raise Failed(f"{task!r} {layout!r} is taken: raise UserError where there is no such task or layout")


def episodes(subject: Subject) -> str:
    """An episode says whose it is, begins short of its goal, has valid actions until it is over, refuses others."""
    steps = 0
    for case in subject.each("play"):
        with closing(open_session(subject.environment, case.task, case.layout)) as session:
            if (session.task, session.layout) != (case.task, case.layout):
                raise Failed(f"{case}: it says that it is {session.task!r} {session.layout!r}")
            if not isinstance(session.max_steps, int) or session.max_steps < 1:
                raise Failed(f"{case}: max_steps is {session.max_steps!r}: give a whole number of at least 1")
            _check_refused(case, session)
            goal = session.goal
        walked = subject.walk(case)
        steps += len(walked.actions)
        for seen in walked.seen:
            _check_observed(case, seen, goal)
        if walked.seen[0].done:
            raise Failed(f"{case}: the episode is over before it begins: list no such layout")
    return f"{subject.looked_at()}, {steps} steps"


def _check_observed(case: Case, seen: Observed, goal: str) -> None:
    for what, text in (("goal", goal), ("observation", seen.observation)):
        if not isinstance(text, str) or not text.strip():
            raise Failed(f"{case}: {what} is {text!r}: say it in words")
    if seen.success and not seen.done:
        raise Failed(f"{case}: a success that is not done")
    if seen.score is not None and not 0 <= seen.score <= 1:
        raise Failed(f"{case}: a score of {seen.score}: give one from 0 to 1")
    if seen.score is not None and seen.success and seen.score != 1:
        raise Failed(f"{case}: a success with a score of {seen.score}: it is 1 at the goal")


def _check_refused(case: Case, session: Session) -> None:
    """An action that is not valid raises InvalidAction, and the episode goes on as if nothing was."""
    start = session.reset()
    if not start.valid_actions:
        raise Failed(f"{case}: no valid action at the start")
    try:
        session.step(NONSENSE)
    except InvalidAction:
        pass
    except Exception as error:
        raise Failed(f"{case}: an action that is not valid raises {type(error).__name__}, not InvalidAction") from error
    else:
        raise Failed(f"{case}: the action {NONSENSE!r} is taken: raise InvalidAction where an action is not valid")
    after, again = session.step(start.valid_actions[0]), (session.reset(), session.step(start.valid_actions[0]))[1]
    if after != again:
        raise Failed(f"{case}: an action that is not valid changes something: what comes next is another")


def texts(subject: Subject) -> str:
    """What an agent is shown names the valid actions in their order, and survives prompt, answer and file."""
    actions: set[str] = set()
    for case in subject.each("read"):
        for seen in subject.walk(case).seen:
            if not seen.done:
                _check_shown(case, seen)
                actions |= set(seen.valid_actions)
        _check_record(case, subject.walk(case))
    _check_prompt(subject)
    return f"{subject.looked_at()}, {len(actions)} different actions"


def _check_shown(case: Case, seen: Observed) -> None:
    shown = seen.observation
    if len(set(seen.valid_actions)) < len(seen.valid_actions):
        raise Failed(f"{case}: valid actions that are there twice: {seen.valid_actions!r}")
    start = _where_list_begins(shown, seen.valid_actions)
    if start < 0:
        raise Failed(f"{case}: the observation does not list the valid actions {list(seen.valid_actions)}: {shown!r}")
    for action in seen.valid_actions:
        read = parse_response(format_response("So it is.", action), seen.valid_actions)
        if read != ParsedResponse("So it is.", action, ""):
            raise Failed(
                f"{case}: the valid action {action!r} is read back from an answer as {read.action!r} "
                f"({read.failure or 'another'}): use one line without blanks at its ends, and not 'Finish'"
            )


def _where_list_begins(shown: str, actions: Sequence[str]) -> int:
    """Where all actions follow, each after the one before; -1 where they do not."""
    begin = shown.rfind(actions[0]) if actions else 0
    while begin >= 0:
        place = begin
        for action in actions:
            place = shown.find(action, place)
            if place < 0:
                break
            place += len(action)
        else:
            return begin
        begin = shown.rfind(actions[0], 0, begin + len(actions[0]) - 1)
    return -1


def _check_record(case: Case, walked: Walk) -> None:
    """A walk is the same after it was written as trajectories are, and read."""
    pairs = zip(walked.seen, walked.actions, strict=False)
    steps = tuple(Step(s.observation, tuple(s.valid_actions), "So.", a, None, None) for s, a in pairs)
    written = asdict(Trajectory(case.task, case.layout, steps))
    line = to_json(written, ensure_ascii=False)
    try:
        read = from_json(line.encode())
    except UnicodeEncodeError as error:
        raise Failed(f"{case}: a text that UTF-8 has no form for: {error}") from error
    if read != from_json(to_json(written)) or "\0" in line:
        raise Failed(f"{case}: a text that a file does not give back as it was")


def _check_prompt(subject: Subject) -> None:
    """Its instructions can be part of a prompt, and its names of things be tokens."""
    style = PromptStyle(about=instructions_of(subject.environment))
    if not all(isinstance(message["content"], str) for message in render_messages("seen", style=style)):
        raise Failed("instructions() gives what is no text")
    names = object_names_of(subject.environment)
    if any(not isinstance(name, str) or not name or name.split() != [name] for name in names):
        raise Failed(f"object_names() gives {names!r}: give words without blanks")


def deterministic(subject: Subject) -> str:
    """Another copy, another process and another order of hashes show the same after the same actions."""
    other = subject.make()
    for case in subject.each("play"):
        first = subject.walk(case)
        for environment in (subject.environment, other):
            again = walk(environment, case, first.actions)
            if again != first:
                raise Failed(f"{case}: {_difference(first, again)} when the same actions are taken again")
    told = _in_another_process(subject)
    return f"{subject.looked_at()}, {told}"


def _difference(first: Walk, again: Walk) -> str:
    for step, (a, b) in enumerate(zip(first.seen, again.seen, strict=False)):
        for part in ("observation", "valid_actions", "done", "success", "score"):
            if getattr(a, part) != getattr(b, part):
                return f"after {step} steps {part} is {getattr(a, part)!r}, and then {getattr(b, part)!r}"
    return f"{len(first.actions)} steps can be taken, and then {len(again.actions)}"


def digest(environment: Environment, cases: Sequence[Case]) -> str:
    """One line for what walks through these layouts show, each by its own digest."""
    walks = (repr(walk(environment, case)) for case in cases)
    return " ".join(hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()[:16] for text in walks)


def _in_another_process(subject: Subject) -> str:
    """Compares with a process in which texts have other hashes, so that sets have another order."""
    if not envs.is_declared(subject.name):
        return "in this process alone, as it is declared by no package"
    cases = subject.listed.cases[:_MOST_IN_ANOTHER_PROCESS]
    fields = [f"{c.task}\t{c.family}\t{c.split}\t{c.layout}" for c in cases]
    seed = "1" if os.environ.get("PYTHONHASHSEED", "random") != "1" else "2"
    paths = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", _OTHER_PROCESS, subject.name, subject.engine, subject.data, *fields],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": paths},
    )
    if done.returncode:
        raise Failed(f"in another process: {(done.stderr.strip().splitlines() or ['no word'])[-1]}")
    here = digest(subject.environment, cases).split()
    for case, mine, its in zip(cases, here, done.stdout.split(), strict=True):
        if mine != its:
            raise Failed(f"{case}: a process in which hashes of texts differ shows something else: sort what is a set")
    return f"{len(cases)} of them in another process too"


def pure(subject: Subject) -> str:
    """States are hashable, a step changes none, and gives the same again."""
    states = 0
    for case in subject.each("play"):
        problem, walked = subject.problem(case), subject.walk(case)
        state = problem.initial_state()
        for action in walked.actions:
            state = _pure_step(case, problem, state, action)
            states += 1
        if _snapshot(problem, problem.initial_state()) != _snapshot(
            subject.problem(case), subject.problem(case).initial_state()
        ):
            raise Failed(f"{case}: the start of a problem is another after it was played")
    return f"{subject.looked_at()}, {states} states"


def _pure_step(case: Case, problem: Problem, state: Hashable, action: str) -> Hashable:
    before = _snapshot(problem, state)
    try:
        first, digest_before = problem.step(state, action), hash(state)
    except TypeError as error:
        raise Failed(f"{case}: a state cannot be hashed ({error}): use tuples and frozensets") from error
    _require_same(case, before, _snapshot(problem, state), f"step({action!r}) changes the state that it is given")
    for other in problem.valid_actions(state)[:2]:
        problem.step(state, other)
    second = problem.step(state, action)
    if hash(state) != digest_before:
        raise Failed(f"{case}: the hash of a state changes with step({action!r})")
    if first != second or hash(first) != hash(second):
        raise Failed(f"{case}: step({action!r}) in one state gives two that are not equal, or of different hashes")
    _require_same(case, _snapshot(problem, first), _snapshot(problem, second), f"step({action!r}) shows two things")
    return first


def _snapshot(problem: Problem, state: Hashable) -> tuple[object, ...]:
    return repr(state), problem.observation(state), tuple(problem.valid_actions(state)), problem.is_goal(state)


def _require_same(case: Case, first: tuple, second: tuple, what: str) -> None:
    for a, b in zip(first, second, strict=True):
        if a != b:
            raise Failed(f"{case}: {what}: {str(a)[:200]!r} becomes {str(b)[:200]!r}")


def splits(subject: Subject) -> str:
    """No layout begins and goes on like another of a different split, also under another name."""
    found: dict[tuple[str, Walk], Case] = {}
    for case in subject.each("compare"):
        same = found.setdefault((case.task, subject.walk(case)), case)
        if same.split != case.split:
            raise Failed(f"{same} of {same.split} and {case.layout} of {case.split} show the same")
        if same.layout != case.layout and same.family == case.family:
            raise Failed(f"{same} and {case.layout} of {case.split} show the same: list each start once")
    benchmark = _against_benchmark(subject, {key: case for key, case in found.items() if case.split == "train"})
    return f"{len(found)} different starts in {', '.join(SPLITS)}{benchmark}"


def _against_benchmark(subject: Subject, trained: dict[tuple[str, Walk], Case]) -> str:
    """Published layouts are none of those that are trained on."""
    count = 0
    for task in subject.tasks:
        try:
            layouts = subject.environment.benchmark_layouts(task)[:10]
        except UserError:
            continue
        for case in (Case(task, "", "benchmark", layout) for layout in layouts):
            same = trained.get((task, walk(subject.environment, case)))
            if same is not None:
                raise Failed(f"{same} of train is the published layout {case.layout}")
            count += 1
    return f", none of them one of {count} published" if count else ""
