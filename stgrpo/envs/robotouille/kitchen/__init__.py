"""The rules of a kitchen: its objects, states as bits, what actions do, and the text an agent is shown."""
