"""DagsHub with one of the three settings wrong: every verb says which, and nothing is lost."""

import pytest

from tests.dagshub.stand_in import ADDRESS, READ_ONLY, TOKEN
from tests.dagshub.trouble import Fault, Troubled, cases, everywhere, is_reported_and_costs_nothing

pytestmark = pytest.mark.docker

NO_ADDRESS = "404: there is no such address"
NOT_THERE = {"repository": NO_ADDRESS, "MLflow": NO_ADDRESS, "remote": "404"}
NOT_DAGSHUBS = "MLFLOW_TRACKING_URI is not DagsHub's; expected"
UNKNOWN = "its TLS certificate is not trusted"
# fmt: off
FAULTS = [
    Fault("wrong token", "401", "403", "403", {"DagsHub": "401", "MLflow": "401", "remote": "403"},
          settings={"token": TOKEN[::-1]}),
    Fault("wrong user", "401", None, None,
          {"DagsHub": "the token is ann's; expected DAGSHUB_USER_NAME's", "MLflow": "401"}, settings={"user": "bob"}),
    Fault("wrong owner", NO_ADDRESS, "404", "404", NOT_THERE, settings={"uri": ADDRESS.replace("team", "nobody")}),
    Fault("missing repository", NO_ADDRESS, "404", "404", NOT_THERE,
          settings={"uri": ADDRESS.replace("iris", "other")}),
    Fault("forgotten .mlflow", NOT_DAGSHUBS, NOT_DAGSHUBS, NOT_DAGSHUBS, {"error": NOT_DAGSHUBS},
          settings={"uri": ADDRESS.removesuffix(".mlflow")}),
    Fault("read-only token", "403", "403", None, {"repository": "ann may only read; expected write access"},
          settings={"token": READ_ONLY}),
    Fault("unknown CA", UNKNOWN, UNKNOWN, UNKNOWN, everywhere(f"{UNKNOWN}: SSL_CERT_FILE names the CA"),
          settings={"uri": ADDRESS.replace("http:", "https:")}),
    Fault("wrong host", "host name", "host name", "host name", everywhere("host name"),
          settings={"uri": ADDRESS.replace("dagshub.test", "dagshub.invalid")}),
    Fault("wrong port", "refused", "refused", "refused", everywhere("refused"),
          settings={"uri": ADDRESS.replace("dagshub.test", "dagshub.test:81")}),
]
# fmt: on


@pytest.mark.parametrize("fault", cases(FAULTS, by_default=["wrong token", "read-only token", "forgotten .mlflow"]))
def test_a_wrong_setting_is_reported_and_costs_nothing(troubled: Troubled, fault: Fault) -> None:
    """With a wrong setting, run, push, pull and doctor say so in bounded time; corrected, they complete their work."""
    is_reported_and_costs_nothing(troubled, fault)
