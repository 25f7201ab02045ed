"""DagsHub with a fault in its servers: every verb says which, and nothing is lost.

doctor writes nothing, so it cannot detect what fails only on writing.
"""

import pytest

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


@pytest.mark.parametrize("fault", cases(FAULTS, by_default=["page", "429 on writing", "S3 denying"]))
def test_a_fault_of_the_servers_is_reported_and_costs_nothing(troubled: Troubled, fault: Fault) -> None:
    """Under a fault, run, push, pull and doctor say so in bounded time; once it is over, they complete their work."""
    is_reported_and_costs_nothing(troubled, fault)
