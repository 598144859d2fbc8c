"""The shop: products as the benchmark's files have them, its pages as pure states, and its reward."""
