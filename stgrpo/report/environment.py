"""What the report asks of the environment that was played: pictures, words, published results, if it has them."""

import dataclasses
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from stgrpo import envs
from stgrpo.errors import UserError
from stgrpo.protocol import LAYOUT, Environment, Illustrating, Noun, Published, PublishedTable, Wording


@dataclasses.dataclass(frozen=True)
class EnvironmentView:
    """An environment to an onlooker; one that is not known can do nothing of what is asked here."""

    environment: Environment | None = None

    @property
    def noun(self) -> Noun:
        """What a layout is called."""
        return self.environment.layout_noun if isinstance(self.environment, Wording) else LAYOUT

    @property
    def draws(self) -> bool:
        """Whether there are pictures."""
        return isinstance(self.environment, Illustrating)

    def describe(self, layouts: Sequence[str]) -> str:
        """What these layouts have in common; "" where nobody says."""
        return self.environment.describe_layouts(layouts) if isinstance(self.environment, Wording) else ""

    def published(self, task: str) -> tuple[PublishedTable, ...]:
        """Tables to compare with."""
        return tuple(self.environment.published_results(task)) if isinstance(self.environment, Published) else ()

    def symbols(self) -> Markup:
        """What the pictures share."""
        return Markup(self.environment.symbols() if isinstance(self.environment, Illustrating) else "")

    def caption(self, observations: Sequence[str]) -> str:
        """A line above an episode."""
        if not isinstance(self.environment, Illustrating):
            return ""
        return next(filter(None, map(self.environment.caption, observations)), "")

    def draw(self, observations: Sequence[str], actions: Sequence[str]) -> list[Markup | None]:
        """A picture of each state, None where there is none."""
        if not isinstance(self.environment, Illustrating):
            return [None] * len(observations)
        pictures = self.environment.draw(observations, actions)
        return [None if picture is None else Markup(picture) for picture in pictures]


def find_environment(config: Mapping[str, object], notes: list[str]) -> EnvironmentView:
    """The environment that a flattened config names; where it cannot be had, a note says what is missing for it."""
    name = config.get("env.name")
    if not name:
        return EnvironmentView()
    try:
        return EnvironmentView(envs.get(str(name), data=str(config.get("env.data", ""))))
    except (UserError, ImportError) as error:
        notes.append(f"{error}. Without it there are no pictures and no published results.")
        return EnvironmentView()
