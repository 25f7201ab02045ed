"""A module a make target of this room, as in scripts/verbs."""

ONE_AT_A_TIME = {"sweep", "keep"}
"""They run stages, and write params.yaml."""

NO_SECRETS = {"sweeps", "keep"}
