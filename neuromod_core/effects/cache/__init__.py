"""Effects on what a token can still see of the past."""
