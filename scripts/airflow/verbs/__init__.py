"""A module a make target of this room, as in scripts/verbs."""

ONE_AT_A_TIME = {"airflow_stage"}
NO_SECRETS: set[str] = set()
