"""ReAct: a state becomes a prompt, a response becomes an action, and an action becomes a reward. One place for each."""
