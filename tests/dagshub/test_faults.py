"""DagsHub with a setting wrong or a fault in its servers: every verb says which, and nothing is lost.

doctor writes nothing, so it cannot detect what fails only on writing.
"""

import pytest

from tests.dagshub.stand_in import ADDRESS, READ_ONLY, TOKEN
from tests.dagshub.trouble import Fault, Troubled, cases, everywhere, is_reported_and_costs_nothing

pytestmark = pytest.mark.docker

PAGE, SILENCE, BROKEN = "a page and not", "no answer in time", "broke the connection off"
# fmt: off
FAULTS = [
    Fault("500", "500", "500", "500", everywhere("500"), what="500"),
    Fault("502", "502", "502", "502", everywhere("502"), what="502"),
    Fault("429", "429", "429", "429", everywhere("429"), what="429"),
    Fault("page", PAGE, PAGE, PAGE, everywhere(PAGE), what="html"),
    Fault("silence", SILENCE, SILENCE, SILENCE, everywhere(SILENCE), what="hang"),
    Fault("broken off", BROKEN, BROKEN, BROKEN, everywhere(BROKEN), what="cut"),
    Fault("page on writing", PAGE, "that of an S3 server", None, {}, what="html", kinds=("write",)),
    Fault("429 on writing", "429", "429", None, {}, what="429", kinds=("write",)),
    Fault("silence on writing", SILENCE, SILENCE, None, {}, what="hang", kinds=("write",)),
    Fault("S3 denying", None, "403", "403", {"remote": "403"}, what="denied", services=("s3",)),
    Fault("S3 full", None, "no room left", None, {}, what="full", services=("s3",), kinds=("write",)),
]
# fmt: on


@pytest.mark.parametrize("fault", cases(FAULTS, by_default=["page", "S3 denying"]))
def test_a_fault_of_the_servers_is_reported_and_costs_nothing(troubled: Troubled, fault: Fault) -> None:
    """Under a fault, run, push, pull and doctor say so in bounded time; once it is over, they complete their work."""
    is_reported_and_costs_nothing(troubled, fault)


NO_ADDRESS = "404: there is no such address"
NOT_THERE = {"repository": NO_ADDRESS, "MLflow": NO_ADDRESS, "remote": "404"}
NOT_DAGSHUBS = "MLFLOW_TRACKING_URI is not DagsHub's; expected"
UNKNOWN = "its TLS certificate is not trusted"
# fmt: off
SETTINGS = [
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


@pytest.mark.parametrize("fault", cases(SETTINGS, by_default=["wrong token", "read-only token"]))
def test_a_wrong_setting_is_reported_and_costs_nothing(troubled: Troubled, fault: Fault) -> None:
    """With a wrong setting, run, push, pull and doctor say so in bounded time; corrected, they complete their work."""
    is_reported_and_costs_nothing(troubled, fault)
