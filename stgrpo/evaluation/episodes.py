"""Playing whole episodes in lockstep: every unfinished episode is one prompt of one sampler call.

How an episode goes (the paper does not say what happens on an unusable response, so it is a setting):

- A prompt is the state's observation, with the history that the style asks for. A response is parsed strictly; one that
  cannot be used never steps the environment.
- `on_invalid="end"` ends the episode there, as a failure. `on_invalid="retry"` is the benchmark's rule: its feedback is
  put before the observation and the model tries again, up to `retries` responses a decision; a decision that used them
  up starts afresh, and the third such decision of an episode (`max_exhausted`, cumulative) ends it.
- An answer that the limit cut before it began, all of it thoughts, is one that cannot be used, and is counted apart.
  Where a server has no answer the episode ends there, and says nothing of the policy.
- `Finish`, the benchmark's word for giving up, always ends the episode as a failure.
- At the cap the failure is "loop" if some state was visited three times or more, else "timeout"; what a session shows
  stands for its state where it tells none. Before the cap an engine that lets nobody go on makes it "ended".

Results do not depend on which episodes are played together: each response has a seed of its own, mixed from the
configuration's seed, the layout, the step and the try. Greedy decoding has no seeds to differ by, so identical prompts
are answered once per call of `run_episodes` and remembered: a policy that runs in circles costs nothing after its
first round.
"""

import collections
import dataclasses
from collections.abc import Callable, Iterable, Sequence

from stgrpo.data.tokenizer import Tokenizer
from stgrpo.errors import UserError
from stgrpo.evaluation.records import MALFORMED, Episode, TurnRecord
from stgrpo.protocol import Judging, Planner, Session, State, expert_action_of, wait_of
from stgrpo.react.policy import SERVER, Policy, Question, Response, SamplingParams
from stgrpo.react.prompt import PromptStyle, Turn, render_messages
from stgrpo.react.response import ParsedResponse, feedback, parse_response
from stgrpo.sampling.base import Sampler, mix_seed, text_seed
from stgrpo.sampling.policy import TokenPolicy

LOOP_VISITS = 3


@dataclasses.dataclass(frozen=True)
class EpisodeProgress:
    """How far `run_episodes` is: episodes finished and solved, of how many, and sampler turns so far."""

    finished: int
    solved: int
    total: int
    turn: int


@dataclasses.dataclass(frozen=True)
class EpisodeConfig:
    """How episodes are played.

    Attributes:
        params: decoding; temperature 0 is greedy.
        style: instructions and history of the prompts; the one the policy was trained with.
        on_invalid: "end" or "retry".
        retries: responses a decision may take under "retry" (the benchmark: 5).
        max_exhausted: decisions without a usable response that end an episode under "retry" (the benchmark: 3).
        max_prompt_len: the longest prompt the sampler takes, in tokens; a longer one fails its episode
            ("prompt_too_long") and no other.
        seed: of the whole evaluation.
        is_judged: whether the planner, where there is one, is asked about each state.
    """

    params: SamplingParams
    style: PromptStyle = PromptStyle()
    on_invalid: str = "end"
    retries: int = 5
    max_exhausted: int = 3
    max_prompt_len: int | None = None
    seed: int = 0
    is_judged: bool = True

    def __post_init__(self) -> None:
        if self.on_invalid not in ("end", "retry"):
            raise ValueError(f"on_invalid is {self.on_invalid!r}: it must be 'end' or 'retry'")
        if self.retries < 1 or self.max_exhausted < 1:
            raise ValueError(f"retries {self.retries} and max_exhausted {self.max_exhausted} must be at least 1")


@dataclasses.dataclass(frozen=True)
class _Advice:
    """What the planner says about a state; all None without a planner, or where it cannot tell."""

    distance: int | None = None
    expert: str | None = None
    optimal: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class RecordedEpisode:
    """An episode with what is learned from it.

    Attributes:
        episode: itself.
        states: in which each of its turns was answered, and the one in which it ended; where a session tells none,
            what it showed.
        responses: of its turns, with their tokens.
    """

    episode: Episode
    states: tuple[State, ...]
    responses: tuple[Response, ...]


class _Game:
    """One episode under way."""

    def __init__(self, session: Session, key: int, config: EpisodeConfig) -> None:
        self.session, self.key, self._is_judged = session, key, config.is_judged
        self.judging = session if isinstance(session, Judging) else None
        self.seen = session.reset()
        self.visits: collections.Counter[State] = collections.Counter([self._place()])
        self.advice: dict[State, _Advice] = {}
        self.optimal_steps = self.advise().distance
        self.steps = self.attempt = self.exhausted = 0
        self.last: Turn | None = None
        self.feedback = ""
        self.turns: list[TurnRecord] = []
        self.failure = ""
        self.success = self.done = False
        self._judge_end()

    def _place(self) -> State:
        return self.judging.state if self.judging is not None else self.seen.observation

    def advise(self) -> _Advice:
        """The planner on the present state; each state of an episode is planned for once."""
        if not self._is_judged or self.judging is None or self.judging.planner is None:
            return _Advice()
        state = self.judging.state
        if state not in self.advice:
            self.advice[state] = self._ask_planner(self.judging.planner, state)
        return self.advice[state]

    def _ask_planner(self, planner: Planner, state: State) -> _Advice:
        try:
            optimal = planner.optimal_actions(state)
            return _Advice(planner.distance(state), expert_action_of(planner, state, wait_of(self.session)), optimal)
        except UserError:  # a policy can play into a state without a way out, or with one that takes too long to prove
            return _Advice()

    def question(self, config: EpisodeConfig) -> Question:
        """What the policy is asked next. A decision that starts afresh counts its tries on, to have other seeds."""
        messages = render_messages(self.seen.observation, style=config.style, last=self.last, feedback=self.feedback)
        tries = self.exhausted * config.retries + self.attempt
        seed = mix_seed(config.seed, self.key, self.steps, tries)
        return Question(messages, self.seen.valid_actions, seed)

    def fail(self, failure: str) -> None:
        self.failure, self.done = failure, True

    def take(self, response: Response | None, config: EpisodeConfig) -> None:
        """Records a response and does what it says; without one the prompt was too long."""
        if response is None:
            return self.fail("prompt_too_long")
        parsed = parse_response(response.text, self.seen.valid_actions)
        failure = response.failure if response.failure == SERVER or parsed.failure in MALFORMED else ""
        failure = failure or parsed.failure
        self.turns.append(self._record(response, parsed, failure))
        if failure == SERVER:
            self.fail(SERVER)
        elif failure:
            self._refuse(parsed, response.failure or "format", config)
        else:
            self._step(parsed)
        return None

    def _record(self, response: Response, parsed: ParsedResponse, failure: str) -> TurnRecord:
        advice, taken = self.advise(), not failure
        planned = advice.distance is not None
        return TurnRecord(
            step=self.steps,
            attempt=self.attempt,
            observation=self.seen.observation,
            response=response.text,
            action=parsed.action,
            failure=failure,
            expert=advice.expert,
            exact=taken and parsed.action == advice.expert if planned else None,
            optimal=taken and parsed.action in advice.optimal if planned else None,
            distance=advice.distance,
            finish=response.finish,
            n_prompt_tokens=response.n_prompt_tokens,
            n_tokens=response.n_tokens,
        )

    def _refuse(self, parsed: ParsedResponse, malformed: str, config: EpisodeConfig) -> None:
        kind = malformed if parsed.failure in MALFORMED else parsed.failure
        if kind == "finish" or config.on_invalid == "end":
            self.fail(kind)
            return
        self.attempt, self.feedback = self.attempt + 1, feedback(parsed)
        if self.attempt == config.retries:
            self.attempt, self.feedback, self.exhausted = 0, "", self.exhausted + 1
            if self.exhausted == config.max_exhausted:
                self.fail(kind)

    def _step(self, parsed: ParsedResponse) -> None:
        assert parsed.reasoning is not None and parsed.action is not None  # else it had failed to parse
        self.seen = self.session.step(parsed.action)
        self.visits[self._place()] += 1
        self.steps, self.attempt, self.feedback = self.steps + 1, 0, ""
        self.last = Turn(parsed.reasoning, parsed.action)
        self._judge_end()

    def _judge_end(self) -> None:
        if self.seen.success:
            self.success = self.done = True
        elif self.steps >= max(1, self.session.max_steps):
            self.fail("loop" if max(self.visits.values()) >= LOOP_VISITS else "timeout")
        elif self.seen.done:
            self.fail("ended")

    def episode(self) -> Episode:
        return Episode(
            task=self.session.task,
            layout=self.session.layout,
            success=self.success,
            steps=self.steps,
            cap=self.session.max_steps,
            failure=self.failure,
            optimal_steps=self.optimal_steps,
            turns=tuple(self.turns),
            last_observation=self.seen.observation,
            score=self.seen.score,
        )


class _RecordedGame(_Game):
    """One that keeps what is learned from."""

    def __init__(self, session: Session, key: int, config: EpisodeConfig) -> None:
        super().__init__(session, key, config)
        self.answered: list[tuple[State, Response]] = []

    def take(self, response: Response | None, config: EpisodeConfig) -> None:
        if response is not None:
            self.answered.append((self._place(), response))
        super().take(response, config)

    def recorded(self) -> RecordedEpisode:
        states = (*(state for state, _ in self.answered), self._place())
        return RecordedEpisode(self.episode(), states, tuple(response for _, response in self.answered))


def _keys(sessions: Iterable[Session]) -> list[int]:
    """A number for each layout, by its name and not its place in the list; repeats of one are numbered."""
    seen: collections.Counter[str] = collections.Counter()
    keys = []
    for session in sessions:
        name = f"{session.task}/{session.layout}"
        keys.append(text_seed(f"{name}#{seen[name]}"))
        seen[name] += 1
    return keys


def run_episodes(
    sessions: Sequence[Session],
    sampler: Sampler,
    tokenizer: Tokenizer,
    *,
    config: EpisodeConfig,
    progress: Callable[[EpisodeProgress], None] | None = None,
) -> list[Episode]:
    """Plays one episode in each session, all together; see the module's docstring for the rules.

    Args:
        sessions: one a layout. Where one is `Judging`, its planner gives the expert's action and the distance.
        sampler: the policy.
        tokenizer: the policy's.
        config: how to play.
        progress: called once before the first turn and after each.

    Returns:
        The episodes, in the order of `sessions`.
    """
    policy = TokenPolicy(sampler, tokenizer, config.params, config.max_prompt_len)
    return play_episodes(sessions, policy, config=config, progress=progress)


def play_episodes(
    sessions: Sequence[Session],
    policy: Policy,
    *,
    config: EpisodeConfig,
    progress: Callable[[EpisodeProgress], None] | None = None,
) -> list[Episode]:
    """`run_episodes` with any policy; of the configuration `params` and `max_prompt_len` are the policy's affair."""
    games = [_Game(session, key, config) for session, key in zip(sessions, _keys(sessions), strict=True)]
    _play(games, policy, config, progress)
    return [game.episode() for game in games]


def play_recorded(
    sessions: Sequence[Session], policy: Policy, *, config: EpisodeConfig, keys: Sequence[int] | None = None
) -> list[RecordedEpisode]:
    """`play_episodes` with what is learned from.

    Args:
        sessions: see `run_episodes`.
        policy: any.
        config: how to play.
        keys: a number for each episode, from which the seeds of its responses are mixed; None to make one of the
            layout's name and how often it came before.
    """
    keys = _keys(sessions) if keys is None else keys
    games = [_RecordedGame(session, key, config) for session, key in zip(sessions, keys, strict=True)]
    _play(games, policy, config, None)
    return [game.recorded() for game in games]


def _play(
    games: Sequence[_Game],
    policy: Policy,
    config: EpisodeConfig,
    progress: Callable[[EpisodeProgress], None] | None,
) -> None:
    turn = 0
    while True:
        if progress is not None:
            progress(EpisodeProgress(sum(g.done for g in games), sum(g.success for g in games), len(games), turn))
        waiting = [game for game in games if not game.done]
        if not waiting:
            return
        responses = policy.answer([game.question(config) for game in waiting])
        for game, response in zip(waiting, responses, strict=True):
            game.take(response, config)
        turn += 1
