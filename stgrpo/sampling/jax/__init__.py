"""The embedded sampler: continuous batching over groups that share a prompt, on the trainer's own devices."""
