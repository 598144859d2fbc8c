"""GGUF files, as llama.cpp has them, read into Hugging Face folders: shape, tensors, tokenizer.

The package `gguf` (the extra `[gguf]`) parses files and dequantises; what stands here says what their names mean.
"""
