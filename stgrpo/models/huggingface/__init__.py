"""Hugging Face folders in and out: weights, config.json, tokenizer files."""
