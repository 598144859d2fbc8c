"""Engines that draw responses from the policy: embedded JAX, vLLM servers, vLLM in this process."""
