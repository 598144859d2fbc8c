"""Episodes on a server that speaks OpenEnv's protocol: one of `stgrpo env-server`, or another."""
