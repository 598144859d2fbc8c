"""What a model is told of the kitchens: the robot, the rules, the recipes. Our own words."""

from stgrpo.protocol import Instructions

INSTRUCTIONS = Instructions(
    task="""\
You control a robot in a kitchen and prepare the meal that the goal asks for, one action at a time, in as few actions \
as possible.""",
    observation="""\
The observation describes every object: stations (tables, stoves, cutting boards, fryers, sinks), items, containers, \
meals and the robot, one fact a line.""",
    rules="""\
Rules:
1. The robot holds one thing at a time. To pick something up it must hold nothing.
2. The robot only reaches things at the station it is at. Move it first; every other station is one move away.
3. Only the uppermost item of a stack can be taken: "Unstack" takes it off another item, "Pick up" takes it off a \
station.
4. "Place" needs an empty station. "Stack" puts the held item on top of an item that has nothing above it.
5. An item that blocks what you need must be set aside somewhere else first.
6. Cutting takes three cut actions on a cutting board. Cooking on a stove, frying in a fryer, filling a pot at a sink \
and boiling it take several turns by themselves, and the thing must stay where it is.

Recipes, from the bottom to the top:
- Sandwich: a bread slice directly on the station, the filling, another bread slice.
- Hamburger: a bottom bun directly on the station, a cooked patty, a top bun. A cheeseburger has a cheese slice too; a \
double cheeseburger has patty, cheese, patty, cheese.
- Soup: fill a pot with water, boil it, add the ingredients, and serve it in a bowl.
The goal may leave open which of several like objects or stations you use.""",
)
