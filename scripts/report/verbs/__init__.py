"""See scripts/verbs."""

ONE_AT_A_TIME: set[str] = set()
NO_SECRETS = {"report", "log"}
