"""`make airflow-worker`: joins the Airflow of another machine, which .env names, as a worker."""

import os
from collections.abc import Sequence

from scripts.airflow import plan, services
from scripts.pipeline import template
from scripts.pipeline.console import tell
from scripts.project import PROJECT


def main(arguments: Sequence[str]) -> None:
    drawn = plan.draw(template.load(PROJECT.root))
    environ = services.joined_variables(services.queues(drawn))
    services.check_address(os.environ["AIRFLOW_API_URL"])
    services.ensure_images([services.engine()])
    running = services.Services(environ, [services.WORKER])
    running.start()
    running.wait()
    tell(
        f"this machine's worker serves {environ['AIRFLOW_QUEUES']}, {environ['AIRFLOW_SLOTS']} stages at a time; "
        f"it uses {services.memory() >> 20} MB of memory; 'make down' stops it"
    )
