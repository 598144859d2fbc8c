"""Trajectories on disk, tokens, and batches that can be resumed."""
