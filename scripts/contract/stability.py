"""What makes a program give another result for the same inputs and parameters, as far as its text shows it."""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from scripts.contract.names import Program, last_name

CLOCKS = re.compile(
    r"time\.(time|time_ns|perf_counter|perf_counter_ns|monotonic|monotonic_ns|process_time|process_time_ns|localtime"
    r"|gmtime|ctime|asctime|strftime)"
    r"|datetime\.datetime\.(now|utcnow|today)|datetime\.date\.today|pandas\.Timestamp\.(now|utcnow|today)"
)
HOSTS = re.compile(
    r"socket\.(gethostname|getfqdn)|platform\.(node|uname|machine|processor)|getpass\.getuser"
    r"|os\.(uname|getpid|getppid|cpu_count|getlogin)|multiprocessing\.cpu_count"
)
NETWORKS = re.compile(
    r"(requests|urllib\.request|urllib3|httpx|aiohttp|socket|http\.client|ftplib|smtplib|telnetlib|xmlrpc\.client"
    r"|websockets?|boto3|botocore|s3fs|gcsfs|paramiko|mlflow|wandb|psycopg2?|pymysql|redis|pymongo|huggingface_hub)(\..*)?"
)
UNSEEDABLE = re.compile(r"random\.SystemRandom|secrets\..+|os\.(urandom|getrandom)|uuid\.uuid[14]")
SEEDS = {"random": "random.seed", "numpy.random": "numpy.random.seed", "torch": "torch.manual_seed"}
"""By a module with one hidden generator for all: the call that seeds it."""
GENERATORS = re.compile(
    r"random\.Random|numpy\.random\.(default_rng|RandomState|SeedSequence|PCG64(DXSM)?|MT19937|Philox|SFC64)"
)
OF_TORCH = re.compile(r"torch\.(rand|randn|randint|randperm|normal|bernoulli|multinomial)(_like)?")
OF_SKLEARN = re.compile(
    r"(.*)(Forest|ExtraTrees?|DecisionTree|GradientBoosting|Bagging|AdaBoost|MLP|SGD|SGDOneClass)(Classifier|Regressor|SVM)"
    r"|IsolationForest|RandomTreesEmbedding|BernoulliRBM|Perceptron|PassiveAggressive\w+|LinearSV[CR]|RANSACRegressor"
    r"|TheilSenRegressor|(MiniBatch|Bisecting)?KMeans|Spectral\w+|(Bayesian)?GaussianMixture|TruncatedSVD|FastICA|NMF"
    r"|MiniBatch\w+|LatentDirichletAllocation|FactorAnalysis|DictionaryLearning|TSNE|MDS|(Gaussian|Sparse)RandomProjection"
    r"|(Stratified|Group)?ShuffleSplit|Repeated(Stratified)?KFold|RandomizedSearchCV|HalvingRandomSearchCV|Nystroem"
    r"|RBFSampler|train_test_split|permutation_importance|resample|shuffle|kmeans_plusplus|randomized_svd"
    r"|make_(blobs|moons|circles|classification|regression|friedman[123]|s_curve|swiss_roll|sparse_uncorrelated|spd_matrix)"
)
"""Estimators and functions that draw random numbers unless they are told not to."""
FOLDS = re.compile(r"(Stratified|StratifiedGroup)?KFold")
LISTS = re.compile(r"os\.(listdir|scandir|walk)|glob\.i?glob")
LISTING_METHODS = {"glob", "rglob", "iterdir"}
IN_ANY_ORDER = {"sorted", "len", "any", "all", "set", "frozenset", "sum", "max", "min"}
"""Functions whose result does not depend on the order of what they are given, but for the last digit of a sum."""
PASS_ON = {"list", "tuple", "iter", "map", "filter"}
"""Functions that keep the order, which is then looked at in what is around them."""
COLLECTS = re.compile(
    r"append|extend|add|insert|update|put|send|write\w*|to_\w+|dump\w*|setdefault|join|print|log_\w+|info"
)


class Slip(NamedTuple):
    """What a program does, and where; `rule` is a key of WHY."""

    rule: str
    node: ast.expr | ast.stmt
    what: str


WHY = {
    "clock": (
        "a result must not depend on when it is made",
        "leave it out, or make the time a parameter",
    ),
    "host": (
        "a result must not depend on the machine or process that made it",
        "leave it out, or make it a parameter",
    ),
    "random": (
        "two runs give different results, and a cached one is only one of them",
        "give it a seed, a parameter of the stage",
    ),
    "order": (
        "the order differs from machine to machine, and with it what is made of it",
        "put sorted(...) around it",
    ),
    "hash": (
        "it differs from process to process, unless PYTHONHASHSEED is set, and with each version of Python",
        "use hashlib, as stagekit.sha256 does",
    ),
    "network": (
        'the block has network="none", so in a run nothing answers',
        'give the block network="internet", or make what is fetched an input',
    ),
}
"""By rule: why it matters, and what to do."""


def slips(program: Program, *, has_network: bool) -> Iterator[Slip]:
    """Yield what makes the program's result unstable; of network use, only without a network."""
    yield from _calls(program)
    yield from _orders(program)
    if not has_network:
        for name, node in program.imports():
            if NETWORKS.fullmatch(name):
                yield Slip("network", node, f"it imports {name}")


# --- calls


def _calls(program: Program) -> Iterator[Slip]:
    calls = list(program.calls())
    seeded = {module for module, seed in SEEDS.items() for call, name in calls if name == seed and _has_seed(call)}
    for call, name in calls:
        if CLOCKS.fullmatch(name) and not (name.endswith("strftime") and len(call.args) > 1):
            yield Slip("clock", call, f"it reads the clock by {name}()")
        elif _is_date_of_now(call, name):
            yield Slip("clock", call, f'it reads the clock by {name}("{call.args[0].value}")')
        elif HOSTS.fullmatch(name):
            yield Slip("host", call, f"it asks by {name}() where it runs")
        elif program.is_builtin(call.func, "hash"):
            yield Slip("hash", call, "it calls hash()")
        elif what := _randomness(call, name, seeded):
            yield Slip("random", call, what)


def _is_date_of_now(call: ast.Call, name: str) -> bool:
    first = call.args[0] if call.args else None
    return (
        name in ("numpy.datetime64", "pandas.Timestamp", "pandas.to_datetime")
        and isinstance(first, ast.Constant)
        and first.value in ("now", "today")
    )


def _randomness(call: ast.Call, name: str, seeded: set[str]) -> str:
    """Return what random source without a seed a call is; empty if it is none."""
    module, _, function = name.rpartition(".")
    if UNSEEDABLE.fullmatch(name):
        return f"{name}() cannot be given a seed"
    if GENERATORS.fullmatch(name):
        return "" if _has_seed(call) else f"{name}() has no seed"
    if name in SEEDS.values():
        return "" if _has_seed(call) else f"{name}() has no seed"
    if OF_TORCH.fullmatch(name):
        return "" if "torch" in seeded or _given(call, "generator") else f"{name}() is called without torch.manual_seed"
    if module in SEEDS and module != "torch" and function[:1].islower():
        return "" if module in seeded else f"{name}() draws from a generator without a seed"
    if name.startswith("sklearn.") and not _given(call, "random_state"):
        if OF_SKLEARN.fullmatch(function):
            return f"{function}() has no random_state"
        if FOLDS.fullmatch(function) and _is(call, "shuffle", True):
            return f"{function}(shuffle=True) has no random_state"
    if _is_sample_of_rows(call, name) and not _given(call, "random_state"):
        return ".sample() of rows has no random_state"
    return ""


def _is_sample_of_rows(call: ast.Call, name: str) -> bool:
    is_sample = isinstance(call.func, ast.Attribute) and call.func.attr == "sample" and not name
    return is_sample and bool({keyword.arg for keyword in call.keywords} & {"frac", "n", "replace", "weights"})


def _has_seed(call: ast.Call) -> bool:
    """Return whether a call has an argument that is no None; `*words` may hold one."""
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return any(not (isinstance(value, ast.Constant) and value.value is None) for value in values)


def _given(call: ast.Call, name: str) -> bool:
    """Return whether a call may have a value for a keyword: it is there and no None, or `**words` may hold it."""
    for keyword in call.keywords:
        if keyword.arg is None:
            return True
        if keyword.arg == name:
            return not (isinstance(keyword.value, ast.Constant) and keyword.value.value is None)
    return False


def _is(call: ast.Call, name: str, value: object) -> bool:
    found = [keyword.value for keyword in call.keywords if keyword.arg == name]
    return any(isinstance(each, ast.Constant) and each.value is value for each in found)


# --- orders


def _orders(program: Program) -> Iterator[Slip]:
    sets = _names_of_sets(program)
    for node in program.nodes:
        if isinstance(node, ast.Call):
            name = program.full_name(node.func)
            method = node.func.attr if isinstance(node.func, ast.Attribute) and not name else ""
            if (LISTS.fullmatch(name) or method in LISTING_METHODS) and _order_counts(program, node):
                yield Slip("order", node, f"it goes through a folder by {name or f'.{method}'}() in no order")
        if _is_iterated(program, node) and _is_set(program, node, sets) and _order_counts(program, node):
            yield Slip("order", node, "it goes through a set, which has no order")


def _is_iterated(program: Program, node: ast.AST) -> bool:
    parent = program.parents.get(node)
    if isinstance(parent, ast.For | ast.comprehension):
        return parent.iter is node
    if isinstance(parent, ast.Starred):
        return True
    if isinstance(parent, ast.Call) and node in parent.args:
        joins = isinstance(parent.func, ast.Attribute) and parent.func.attr == "join"
        return joins or any(program.is_builtin(parent.func, name) for name in (*PASS_ON, "enumerate", "str", "next"))
    return isinstance(parent, ast.FormattedValue)


def _is_set(program: Program, node: ast.AST, names: set[str]) -> bool:
    """Return whether an expression is a set, as far as its text shows; `names` are those of sets."""
    todo = [node]  # no recursion: a stranger's expression may be deep
    while todo:
        node = todo.pop()
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
            todo += [node.left, node.right]
        elif (
            isinstance(node, ast.Set | ast.SetComp)
            or (isinstance(node, ast.Name) and node.id in names)
            or (
                isinstance(node, ast.Call) and any(program.is_builtin(node.func, name) for name in ("set", "frozenset"))
            )
        ):
            return True
    return False


def _names_of_sets(program: Program) -> set[str]:
    """Return the names that stand for a set wherever they are assigned."""
    sets, others = set(), set()
    for node in program.nodes:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value:
            for target in _targets(node):
                if isinstance(target, ast.Name):
                    (sets if _is_set(program, node.value, set()) else others).add(target.id)
        if isinstance(node, ast.arg):
            others.add(node.arg)
    return sets - others


def _targets(node: ast.Assign | ast.AnnAssign | ast.NamedExpr) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _order_counts(program: Program, node: ast.AST) -> bool:
    """Return whether the order of what `node` gives can be seen in what is made of it."""
    inner = node
    for outer in program.around(node):
        if isinstance(outer, ast.Call) and inner is not outer.func:
            if any(program.is_builtin(outer.func, name) for name in IN_ANY_ORDER):
                return False
            if program.full_name(outer.func) == "collections.Counter":
                return False
            if not any(program.is_builtin(outer.func, name) for name in PASS_ON):
                return True
        elif isinstance(outer, ast.Compare | ast.SetComp):
            return False
        elif isinstance(outer, ast.For | ast.AsyncFor):
            return inner is outer.iter and _collects(outer.body)
        elif isinstance(outer, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            return not _is_sorted_later(program, outer)
        elif isinstance(outer, ast.stmt):
            return True
        inner = outer
    return True


def _collects(body: Sequence[ast.stmt]) -> bool:
    """Return whether a loop leaves something behind that has an order: it collects, writes, prints or returns."""
    for node in (node for statement in body for node in ast.walk(statement)):
        if isinstance(node, ast.Yield | ast.YieldFrom | ast.Return | ast.Break | ast.AugAssign):
            return True
        if isinstance(node, ast.Subscript | ast.Attribute) and isinstance(node.ctx, ast.Store):
            return True
        if isinstance(node, ast.Call) and COLLECTS.fullmatch(last_name(node.func)):
            return True
    return False


def _is_sorted_later(program: Program, node: ast.Assign | ast.AnnAssign | ast.NamedExpr) -> bool:
    """Return whether the name that is assigned is put in order somewhere in the program."""
    targets = _targets(node)
    if len(targets) != 1 or not isinstance(targets[0], ast.Name):
        return False
    for call, _ in program.calls():
        is_method = isinstance(call.func, ast.Attribute) and call.func.attr == "sort"
        if is_method or program.is_builtin(call.func, "sorted"):
            sorted_ones = [call.func.value] if is_method else call.args[:1]
            if any(getattr(each, "id", "") == targets[0].id for each in sorted_ones):
                return True
    return False
