"""The search engine: words of a text, their stems, and products ranked by BM25 as the benchmark's Lucene ranks them."""
