"""`make pull`: fetches the data and the run-cache from DVC's remote; what was never pushed is left to the next run."""

from scripts import transfer
from scripts.pipeline import dvc_adapter
from scripts.project import PROJECT, UserError
from scripts.transfer import first


def main(arguments: list[str]) -> None:
    with transfer.repository("pulled", "pull") as repo:
        count = dvc_adapter.pull(repo)
        outputs, knows_results = dvc_adapter.outputs(repo), bool(dvc_adapter.cached_commands(repo))
    lacking = [output.path for output in outputs if not (PROJECT.root / output.path).exists()]
    told = f"{len(lacking)} of {len(outputs)} outputs are not on the remote ({first(lacking)})"
    if lacking and len(lacking) == len(outputs) and not knows_results:
        raise UserError(f"{told}: 'make run' makes them, and 'make push' sends them there")
    print(f"pulled {count} files of data, and the run-cache")
    if lacking:
        print(f"{told}: 'make run' makes them")
