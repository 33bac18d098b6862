"""Effects on next-token logits."""
