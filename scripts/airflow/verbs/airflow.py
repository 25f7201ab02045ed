"""`make airflow`: starts Airflow with a worker on this machine, and says where it is."""

import os
import time
from collections.abc import Sequence

from scripts.airflow import api, drawing, keys, plan, services
from scripts.pipeline import template
from scripts.pipeline.console import tell
from scripts.project import PROJECT, UserError, atomic_write


def main(arguments: Sequence[str]) -> None:
    if services.is_joined(os.environ):
        raise UserError(
            ".env makes this clone a worker of another machine's Airflow; expected none of "
            f"{', '.join(services.SETTINGS)}: take them out, or call 'make airflow-worker'"
        )
    pipeline = template.load(PROJECT.root)
    drawn = plan.draw(pipeline)
    plan.write(drawn)
    services.ensure_images([services.engine(), services.stores()])
    began = time.monotonic()
    environ = services.variables(services.queues(drawn))
    environ["AIRFLOW_QUEUES"] += f",{drawing.HOME}"
    running = services.Services(environ, list(services.NAMES))
    tell("starting Airflow: PostgreSQL, Redis, API server, scheduler, DAG processor, one worker ...")
    running.start()
    running.wait()
    api.Api().pools(plan.section(pipeline).get("pools") or {})
    where = services.address()
    atomic_write(plan.files() / "address", where + "\n")
    used = services.memory() >> 20
    lines = [
        f"Airflow: {where}, user {keys.USER}, password {keys.load()['password']}",
        f"ready after {time.monotonic() - began:.0f} s; it uses {used} MB of memory; 'make down' stops it",
    ]
    if address := os.environ.get("AIRFLOW_ADDRESS"):
        file = plan.files() / "worker.env"
        atomic_write(file, services.worker_lines(environ, address), mode=0o600)
        lines.append(f"for a worker on another machine, four lines of its .env: {file.relative_to(PROJECT.root)}")
    lines.append("then     make airflow-run WAIT=1")
    tell("\n".join(lines))
