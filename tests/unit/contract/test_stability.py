"""Each thing that makes a result unstable is found on its line, and what is as good as stable is not."""

import pytest

from scripts.contract import names, stability
from scripts.contract.names import Program, Unreadable

BAD = {
    # rule: programs, in each of which the lines with # bad, and no others, are found
    "clock": [
        "import time\nx = time.time()  # bad\n",
        "from time import time as now\nx = 1\nx = now()  # bad\n",
        "import datetime as dt\ndef f():\n    return dt.datetime.now(dt.UTC).isoformat()  # bad\n",
        "from datetime import date, datetime\na = datetime.utcnow()  # bad\nb = date.today()  # bad\n",
        "import time as t\nx = t.perf_counter_ns()  # bad\ny = t.strftime('%Y')  # bad\n",
        "import numpy as np\nimport pandas as pd\na = np.datetime64('now')  # bad\nb = pd.Timestamp.now()  # bad\n",
    ],
    "host": [
        "import os, socket\na = os.getpid()  # bad\nb = socket.gethostname()  # bad\n",
        "import platform\nc = platform.node()  # bad\n",
        "from os import cpu_count\njobs = cpu_count()  # bad\n",
    ],
    "random": [
        "import random\nx = random.random()  # bad\nrandom.shuffle([])  # bad\n",
        "from random import choice, Random\nx = choice([1])  # bad\ny = Random()  # bad\n",
        "import numpy as np\nx = np.random.rand(3)  # bad\ny = np.random.default_rng()  # bad\n",
        "from numpy.random import default_rng\nx = default_rng(None)  # bad\ny = default_rng(seed=None)  # bad\n",
        "import numpy.random as nr\nx = nr.normal()  # bad\ny = nr.RandomState()  # bad\n",
        "import random\nrandom.seed()  # bad\nx = random.random()  # bad\n",
        "import os, uuid, secrets\na = os.urandom(8)  # bad\nb = uuid.uuid4()  # bad\nc = secrets.token_hex()  # bad\n",
        "from sklearn.ensemble import RandomForestClassifier\nx = RandomForestClassifier(\n  n_jobs=1)\n".replace(
            "Classifier(\n", "Classifier(  # bad\n"
        ),
        "from sklearn.model_selection import train_test_split as split\na = split([], random_state=None)  # bad\n",
        "from sklearn import cluster\nx = cluster.KMeans(3)  # bad\n",
        "import sklearn.model_selection as m\nx = m.KFold(5, shuffle=True)  # bad\ny = m.ShuffleSplit()  # bad\n",
        "from sklearn.inspection import permutation_importance\nx = permutation_importance(1, 2, 3)  # bad\n",
        "import pandas as pd\nx = pd.read_csv('a').sample(frac=1)  # bad\n",
        "import torch\nx = torch.randn(3)  # bad\n",
    ],
    "order": [
        "import os\nx = os.listdir('.')  # bad\n",
        "import os\nfor name in os.listdir('.'):  # bad\n    print(name)\n",
        "from glob import glob\nx = [open(p).read() for p in glob('*')]  # bad\n",
        "from pathlib import Path\ndef f():\n    return list(Path('.').iterdir())  # bad\n",
        "from pathlib import Path\nrows = []\nfor p in Path('.').rglob('*'):  # bad\n    rows.append(p)\n",
        "from pathlib import Path\nx = next(Path('.').glob('*.csv'))  # bad\n",
        "def f(p):\n    for q in p.glob('*'):  # bad\n        yield q\n",
        "def f(rows):\n    return ','.join({r for r in rows})  # bad\n",
        "def f(a, b):\n    return list(set(a) - set(b))  # bad\n",
        "names = {'a', 'b'}\nfor name in names:  # bad\n    print(name)\n",
        "def f(file, a):\n    for x in set(a):  # bad\n        file.write(x)\n",
        "def f(a):\n    return {x: 1 for x in frozenset(a)}  # bad\n",
        "def f(a):\n    return [*set(a)]  # bad\n",
        "def f(a):\n    return dict(enumerate(set(a)))  # bad\n",
        "def f(a):\n    return f'{set(a)}'  # bad\n",
    ],
    "hash": [
        "x = hash('a')  # bad\n",
        "def f(rows):\n    return [hash(r) % 10 for r in rows]  # bad\n",
    ],
    "network": [
        "import requests  # bad\n",
        "def f():\n    from urllib.request import urlopen  # bad\n    return urlopen\n",
        "import socket as s  # bad\n",
        "from http import client  # bad\n",
        "import os, boto3.session  # bad\n",
    ],
}
GOOD = {
    "clock": [
        "import time\ntime.sleep(1)\n",
        "def f(time):\n    return time.time()\n",  # whatever was handed in
        "from datetime import datetime\nx = datetime(2020, 1, 1)\ny = datetime.fromisoformat('2020-01-01')\n",
        "import time\nx = time.strftime('%Y', when)\n",
        "import numpy as np\nx = np.datetime64('2020-01-01')\n",
        "# time.time()\nx = 'datetime.now()'\n",
    ],
    "host": ["import os\nx = os.path.join('a', 'b')\n"],
    "random": [
        "import random\nx = random.Random(3).random()\n",
        "import random\ndef main(args):\n    random.seed(args.seed)\n    return random.random()\n",
        "import numpy as np\ndef f(seed):\n    return np.random.default_rng(seed).normal()\n",
        "import numpy as np\nnp.random.seed(3)\nx = np.random.rand()\n",
        "import numpy as np\ndef f(g: np.random.Generator):\n    return g.normal()\n",
        "from sklearn.ensemble import RandomForestClassifier as F\nx = F(random_state=3)\ny = F(**words)\n",
        "from sklearn.model_selection import KFold\nx = KFold(5)\n",
        "from sklearn.linear_model import LinearRegression\nx = LinearRegression()\n",
        "from mine import train_test_split\nx = train_test_split([])\n",
        "def f(frame, seed, rng):\n    return frame.sample(frac=1, random_state=seed), rng.sample()\n",
        "import torch\ntorch.manual_seed(3)\nx = torch.rand(3)\n",
        "import uuid\nx = uuid.uuid5(uuid.NAMESPACE_DNS, 'a')\n",
    ],
    "order": [
        "import os\nx = sorted(os.listdir('.'))\n",
        "from pathlib import Path\nx = sorted(p.name for p in Path('.').glob('*') if p.is_file())\n",
        "from pathlib import Path\nx = list(Path('.').iterdir())\nx.sort()\n",
        "from pathlib import Path\ndef f():\n    found = [*Path('.').iterdir()]\n    return sorted(found)\n",
        "from pathlib import Path\nfor p in Path('.').glob('*.part'):\n    p.unlink()\n",
        "import os\nx = len(os.listdir('.'))\ny = 'a' in os.listdir('.')\nz = any(n for n in os.listdir('.'))\n",
        "def f(a):\n    return sorted(set(a) - {1}), len(set(a)), 1 in set(a), {x for x in set(a)}\n",
        "def f(a):\n    for x in set(a):\n        if x < 0:\n            raise ValueError(x)\n",
        "def f(a):\n    return sum(1 for x in set(a)), max(list(set(a)))\n",
        "names = {'a'}\nnames = ['a']\nfor name in names:\n    print(name)\n",
        "def f(a):\n    for x in {'a': 1}:\n        print(x)\n",
    ],
    "hash": [
        "import hashlib\nx = hashlib.sha256(b'').hexdigest()\n",
        "def hash(x):\n    return 1\ny = hash('a')\n",
        "from mine import hash\ny = hash('a')\n",
        "class A:\n    def __hash__(self):\n        return 1\n",
    ],
    "network": [
        "from urllib.parse import urlsplit\nimport http, ipaddress\n",
        "from . import requests\n",
        "import requests_cache_of_mine\n",
    ],
}


def found(text):
    return [(slip.rule, slip.node.lineno) for slip in stability.slips(Program(text.encode()), has_network=False)]


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in BAD.items() for text in texts])
def test_what_is_unstable_is_found_on_its_line(rule, text):
    """Each kind is found where it is, by whatever name it was imported, and nothing else is."""
    lines = [number for number, line in enumerate(text.splitlines(), 1) if "# bad" in line]
    slips = [each for each in found(text) if each[0] != "network" or rule == "network"]
    assert lines and sorted(slips, key=lambda each: each[1]) == [(rule, line) for line in lines]


@pytest.mark.parametrize(("rule", "text"), [(rule, text) for rule, texts in GOOD.items() for text in texts])
def test_what_is_stable_is_not_found(rule, text):
    """What has a seed, an order, or a name alone in common with what has not, passes."""
    assert found(text) == []


def test_every_rule_says_why_and_what_to_do():
    """The rules that are tested are those that there are."""
    assert set(BAD) == set(GOOD) == set(stability.WHY)


def test_a_network_may_be_used_by_who_has_one():
    """Of a stage whose block has a network, no use of it is found."""
    program = Program(b"import requests\nimport time\ntime.time()\n")
    assert [slip.rule for slip in stability.slips(program, has_network=True)] == ["clock"]


@pytest.mark.parametrize(
    ("data", "line", "why"),
    [
        (b"x = 1\nx = (\n", 2, "was never closed"),
        (b"print 'a'\n", 1, "Missing parentheses"),
        (b"x = 1\0\n", 1, "null byte"),
        (b"\xff\xfe", 1, "codec can't decode"),
        (b"(" * 100_000, 1, "too many nested parentheses"),
        (b"x = " + b"-" * 100_000 + b"1\n", 1, "too"),
        (b"#" * (names.LARGEST + 1), 1, "has more than 1000000 bytes"),
    ],
    ids=["open", "python 2", "null", "no utf-8", "parentheses", "deep", "large"],
)
def test_what_is_no_program_is_told_from_one(data, line, why):
    """A stage's file may be anything: it is refused with a line and a reason, and never run."""
    with pytest.raises(Unreadable, match=why) as refused:
        Program(data)
    assert refused.value.line == line


@pytest.mark.parametrize("length", [500, 5_000])
def test_a_long_expression_is_read_or_refused(length):
    """What is deep is looked through, or refused, without an end of the stack."""
    for text in (" + ".join(["1"] * length), " | ".join(["{1}"] * length), "a" + ".b" * length, "a" + "[0]" * length):
        try:
            assert ("clock", 2) in found(f"import time\nx: {text} = [*({text})], time.time()\n")
        except Unreadable as why:
            assert length == 5_000 and "recursion" in str(why)
