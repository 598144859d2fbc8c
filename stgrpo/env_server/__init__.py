"""Environments for others: a server that speaks the protocol of OpenEnv."""
