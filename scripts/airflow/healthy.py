"""Answers for the health of one of Airflow's services, as far as it really works: `healthy.py api|scheduler|...`."""

import json
import os
import sys
import urllib.request

API = "http://airflow-api:8080/api/v2/monitor/health"


def api() -> dict[str, dict[str, str]]:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(API, timeout=8) as answer:
        return json.load(answer)


def worker() -> bool:
    """Return whether Celery's worker in this container answers by way of the broker."""
    from celery import Celery

    name = f"celery@{os.uname().nodename}"
    control = Celery(broker=os.environ["AIRFLOW__CELERY__BROKER_URL"]).control
    return bool(control.ping(destination=[name], timeout=8, limit=1))


def main(service: str) -> bool:
    if service == "worker":
        return worker()
    return api()["metadatabase" if service == "api" else service]["status"] == "healthy"


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1]))
