"""The science of Neuromod, importable without Prefect, Hydra or MLflow.

Read it from the bottom up: kernel; the leaves design, instruments, stats, store, track; then models, effects, packs,
engine, calibrate, trial; and report on top. A line may import what stands below it, never above.
"""

__version__ = "0.1.0"
