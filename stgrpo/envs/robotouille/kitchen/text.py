"""The text of a state, byte for byte what the benchmark shows its agents.

One block an object: its type and name, then a line for each true predicate that mentions it. A block depends on few
facts, so it is looked up by them and rendered only the first time.
"""

from itertools import product

from stgrpo.envs.robotouille.kitchen.domain import CHANGING, PREDICATES
from stgrpo.envs.robotouille.kitchen.grounding import Grounding

_ALWAYS = -1


class _Block:
    """The lines about one object, in order, each with the bit that switches it on."""

    def __init__(self, header: str):
        self.header = header
        self.lines: list[tuple[int, str]] = []
        self.mask = 0
        self.texts: dict[int, str] = {}

    def add(self, bit: int, line: str) -> None:
        self.lines.append((bit, line))
        if bit > 0:
            self.mask |= bit

    def render(self, facts: int) -> str:
        key = facts & self.mask
        text = self.texts.get(key)
        if text is None:
            text = "\n".join([self.header, *(line for bit, line in self.lines if bit < 0 or key & bit)])
            self.texts[key] = text
        return text


class Renderer:
    """Renders the states of one kitchen."""

    def __init__(self, grounding: Grounding):
        self._blocks = {
            name: _Block(f"{type_.capitalize()} {name}:") for name, type_ in grounding.types.items() if type_ != "meal"
        }
        self._meals = {name: _Block(f"Meal {name}:") for name in grounding.objects["meal"]}
        self._exists = dict(zip(grounding.objects["meal"], grounding.created, strict=True))
        blocks = self._blocks | self._meals
        changing: dict[str, list[tuple[tuple[str, ...], int]]] = {}
        for (name, args), bit in grounding.bits.items():
            changing.setdefault(name, []).append((args, bit))
        for predicate in PREDICATES:
            if predicate.name in CHANGING:
                atoms = changing.get(predicate.name, [])
            else:
                pairs = product(*(grounding.objects[type_] for type_ in predicate.types))
                atoms = [(args, _ALWAYS) for args in pairs if (predicate.name, args) in grounding.static]
            for args, bit in atoms:
                for name, text in zip(args, predicate.texts, strict=True):
                    blocks[name].add(bit, text.format(*args))

    def render(self, facts: int) -> str:
        """Returns the description of the objects, without valid actions and goal."""
        blocks = [block.render(facts) for block in self._blocks.values()]
        blocks += [block.render(facts) for name, block in self._meals.items() if facts & self._exists[name]]
        return "\n\n".join(blocks)
