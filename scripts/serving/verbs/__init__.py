"""A module a make target of this room, as in scripts/verbs."""

ONE_AT_A_TIME: set[str] = set()
"""None changes outputs or production: a run goes on beside a server."""

NO_SECRETS: set[str] = set()
