"""What lies in inside/ runs in the server's image (test_image.py). Without the room scripts/serving nothing runs."""

from scripts.project import ROOT

collect_ignore_glob = ["inside", *([] if (ROOT / "scripts" / "serving").is_dir() else ["test_*.py"])]
