"""The planner that sees everything, and the expert that knows only what it has seen."""
