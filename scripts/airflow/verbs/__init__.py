"""A module a make target of this room, as in scripts/verbs."""

ONE_AT_A_TIME = {"airflow_stage"}
"""It changes outputs, in a clone of its own."""

NO_SECRETS = {"airflow", "airflow_run", "airflow_worker"}
