"""What a model is told of the rooms. Our own words."""

from stgrpo.protocol import Instructions

INSTRUCTIONS = Instructions(
    task="You are in a room of a household and do the task that the goal states, in as few commands as possible.",
    observation="""\
It begins with what you have seen so far: the receptacles you have looked into with what is in them, what you have \
done to things, where you are and what you carry. Then comes what your last command has brought. The valid actions are \
the commands that are possible now.""",
    rules="""\
Rules:
1. You carry one thing at a time. Take things out of receptacles and move them to others.
2. You reach only the receptacles that you are at. "go to" takes you to any other in one command.
3. What is in a receptacle you see when you are there, and in a closed one when you have opened it. Look where such \
things usually are.
4. To clean a thing, carry it to a sink basin; to heat it, to a microwave; to cool it, to a fridge. These need not be \
open for it.
5. To look at something under a lamp, carry it to where the lamp is and use the lamp.""",
)
