"""A module a comparison: its `compare(bench, record)` puts what it finds into the record."""

NAMES = (
    *("full_run", "nothing_to_do", "overhead", "reports", "side_by_side", "growth", "data", "border", "builds"),
    *("first_run", "transfer", "sweeps", "airflow", "serving", "registry"),
)
