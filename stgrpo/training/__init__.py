"""SFT and GRPO: pure losses in the middle, a sharded jitted step around them, a loop that can be killed outside."""
