"""Effects on what enters the first block."""
