"""The passwords and keys of this clone's Airflow: made once, kept in .local/airflow, mode 0600."""

import base64
import fcntl
import json
import os
import secrets

from scripts.airflow.plan import files
from scripts.project import PROJECT, Project, atomic_write

USER = "admin"
NAMES = ("database", "broker", "key", "jwt", "fernet", "password")


def load(project: Project = PROJECT) -> dict[str, str]:
    """Return the keys by name, which are made the first time."""
    folder = files(project)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "keys.json"
    with (folder / "keys.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            made = {name: secrets.token_urlsafe(24) for name in NAMES}
            made["jwt"] = secrets.token_urlsafe(64)  # Airflow signs with SHA-512
            made["fernet"] = base64.urlsafe_b64encode(os.urandom(32)).decode()
            atomic_write(path, json.dumps(made), mode=0o600)
        found = json.loads(path.read_text())
        (folder / "users").mkdir(exist_ok=True)
        atomic_write(folder / "users" / "passwords.json", json.dumps({USER: found["password"]}), mode=0o600)
    return found
