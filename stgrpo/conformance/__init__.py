"""Whether an environment keeps to the protocol, found out without a model, and the skeleton of a new one."""
