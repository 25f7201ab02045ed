"""Gives a registered model more versions, where its MLflow server is: `python - MODEL COUNT < fill.py`.

They are copies of its first version, under digests of their own, as that many publications leave them: every tenth went
to production, the others stay in Staging. Written by the server's own store, a hundred a second: no call over HTTP.
"""

import json
import sys
from hashlib import sha256

from mlflow.entities.model_registry import ModelVersionTag, RegisteredModelTag
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

DATABASE = "sqlite:////mlflow/mlflow.db"
EVERY = 10  # of how many versions one goes to production


def tags_of(number: int, first: dict[str, str]) -> dict[str, str]:
    """Return the tags of a version, like those of the first one."""
    stage = "Staging" if number % EVERY else "Production"
    record = json.loads(first["decision_record"]) | {"turn": 1 + (number + EVERY - 1) // EVERY}
    own = {name: sha256(f"{name} {number}".encode()).hexdigest() for name in ("model_sha256", "dvc_lock_sha256")}
    return first | own | {"decision": stage, "decision_record": json.dumps(record)}


def main(model: str, count: int) -> None:
    store = SqlAlchemyStore(DATABASE)
    first = store.get_model_version(model, "1")
    for number in range(2, count + 1):
        tags = tags_of(number, first.tags)
        listed = [ModelVersionTag(name, value) for name, value in tags.items()]
        store.create_model_version(model, first.source, first.run_id, listed, description=first.description)
        store.transition_model_version_stage(model, str(number), tags["decision"], tags["decision"] == "Production")
    champion = count - count % EVERY
    turn = json.loads(tags_of(champion, first.tags)["decision_record"])["turn"]
    store.set_registered_model_alias(model, "production", str(champion))
    store.set_registered_model_alias(model, "staging", str(count - (champion == count)))
    store.set_registered_model_tag(model, RegisteredModelTag("production_turn", f"{turn}.0.{champion}"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
