"""Airflow on this clone: services, the DAG, and what triggers a run. BEYOND.md says how it works."""
