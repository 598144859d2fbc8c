"""The paper's theorems, measured: single-turn success, whole episodes, and what relates them; pure of environments."""
