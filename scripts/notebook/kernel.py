"""Runs cells in the stage's own Python. Jupyter's packages come last, so that what the stage has is the stage's."""

import sys
from pathlib import Path

sys.path.remove(str(Path(__file__).parent))  # a program's own folder would come first
sys.path += map(str, Path("/opt/jupyter/venv/lib").glob("python3.*/site-packages"))

from ipykernel.kernelapp import launch_new_instance

launch_new_instance()
