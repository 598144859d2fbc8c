"""Where the figures of a run go: metrics.jsonl always, and beside it TensorBoard, Weights & Biases or one's own."""
