"""Loads the model for MLflow, wherever it is served: this file goes into the model's folder."""

import lightgbm


def _load_pyfunc(path: str) -> lightgbm.Booster:
    """Return the model in the file `path`. MLflow calls this, and then `predict` with a table of features."""
    return lightgbm.Booster(model_file=path)
