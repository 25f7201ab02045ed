"""`make notebook`, `make notebook-<stage>`: JupyterLab with a stage's packages, until Ctrl-C."""

from collections.abc import Sequence

from scripts.notebook import server
from scripts.pipeline import images, template
from scripts.project import PROJECT
from scripts.recovery.signals import Stopped


def main(arguments: Sequence[str]) -> None:
    server.check_alone()
    wanted = images.load(PROJECT.stages)
    pipeline = template.load(PROJECT.root, wanted)
    stage = server.stage_of(pipeline, "".join(arguments[:1]))
    image = server.image_of(wanted, stage)
    try:
        server.serve(stage, image, pipeline)
    except Stopped as stopped:
        print(f"\nstopped by {stopped.name}; what was saved is in notebooks/")
