"""Attention over groups of responses that share a prompt: one meaning, three implementations."""
