"""Exact planning: A* over the kitchen's own states, and the bounds that guide it."""
