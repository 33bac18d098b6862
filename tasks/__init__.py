"""One task per call of the core: a retry policy, a name, nothing else."""
