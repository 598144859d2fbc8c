"""Where responses come from: the sampler protocol and the engines behind it."""
