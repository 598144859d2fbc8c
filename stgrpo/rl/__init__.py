"""Reinforcement learning: losses, groups of scored responses, rollouts, and the updates they give."""
