"""Effects on what a response is for: its voice, its risk, and how much is written before one response is given."""
