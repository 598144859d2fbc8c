"""Models behind OpenAI-compatible servers: the HTTP client, chat policies, and the threads that keep them busy."""
