"""Experts: who shows the model what to do, and why."""
