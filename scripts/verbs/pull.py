"""`make pull`: fetches the data and the run-cache from DVC's remote; what was never pushed is left to the next run, and
so is what is damaged there.
"""

from scripts import transfer
from scripts.pipeline import dvc_adapter
from scripts.project import PROJECT, UserError
from scripts.transfer import first


def main(arguments: list[str]) -> None:
    with transfer.repository("pulled", "pull") as repo:
        count = dvc_adapter.pull(repo)
        outputs, knows_results = dvc_adapter.outputs(repo), bool(dvc_adapter.cached_commands(repo))
        refused = {output.path: found for output in outputs if (found := dvc_adapter.refused(repo, output))}
    lacking = [each.path for each in outputs if each.path not in refused and not (PROJECT.root / each.path).exists()]
    told = f"{len(lacking)} of {len(outputs)} outputs are not on the remote ({first(lacking)})"
    if lacking and len(lacking) == len(outputs) and not knows_results:
        raise UserError(f"{told}: 'make run' makes them, and 'make push' sends them there")
    addresses = sorted({address for found in refused.values() for address in found})
    print(f"pulled {count - len(addresses)} files of data, and the run-cache")
    if lacking:
        print(f"{told}: 'make run' makes them")
    if refused:
        print(
            f"{len(refused)} of {len(outputs)} outputs are damaged on the remote ({first(list(refused))}), and not "
            f"taken: delete there what is not what its name says ({first(addresses)}); 'make run' makes them, and "
            "'make push' sends them again"
        )
