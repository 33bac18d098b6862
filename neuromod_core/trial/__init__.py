"""From a study to its verdicts: library, plan, registration, administration, scores, analysis, verification.

A study is registered as a frozen plan; a plan expands to cells; cells of different arms run side by side in one batch;
everything after that is bookkeeping that must not lie. Knows nothing of Prefect, Hydra or MLflow.
"""
