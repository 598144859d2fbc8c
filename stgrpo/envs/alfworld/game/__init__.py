"""Rules, text and reading of ALFWorld's text games."""
