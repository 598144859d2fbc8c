"""The policy network: one decoder for the Qwen2 and Llama families, its attention, and its formats on disk."""
