"""A module a make target, called by its name. An optional room has such a package too: `scripts/<room>/verbs`."""

ONE_AT_A_TIME = {"run", "publish", "push", "pull", "clean", "promote", "rollback", "reproduce", "upgrade"}
"""The verbs that change outputs, production or code, run stages, or hold DVC's own locks."""

NO_SECRETS = {
    *("exec", "metrics", "plots", "build", "push_images", "setup_env", "setup_dvc", "clean", "fmt", "lint", "lock"),
    *("check", "merge_lock", "upgrade", "new_stage", "rename", "start", "devcontainer", "notebook"),
}
"""The verbs that speak to no server of ours."""
