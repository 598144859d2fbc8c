"""Rollouts from vLLM: its servers, its engine in this process, and the weights that go there."""
