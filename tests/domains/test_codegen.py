"""Code that a model wrote: what is found in a reply, what is right, and verdicts that cannot be talked into being."""

import json
from random import Random

import pytest

from studium.domains.codegen import Codegen
from studium.domains.protocol import Problem
from studium.errors import BadRequest
from studium.tools import sandbox
from studium.tools.outcome import Fate, Outcome

CODEGEN = Codegen()
DOUBLE = Problem(
    "codegen",
    "doubles",
    "Write a Python function f(x) that returns 2 times x.",
    (),
    "def f(x):\n    return 2 * x",
    1,
    {"task": "write", "function": "f", "calls": [[0], [3], [-7], [1000]], "results": [0, 6, -14, 2000]},
)


@pytest.fixture(autouse=True)
def a_sandbox():
    if sandbox.available().backend is None:
        pytest.skip(f"code cannot be graded here: {sandbox.available().found}")


@pytest.mark.parametrize(
    "reply",
    [
        "def f(x): return x * 2",
        "Sure!\n```python\ndef f(x):\n    return x + x\n```\nThis doubles x.",
        "```\ndef f(x):\n    return x << 1",
        "```py\nimport math\n\ndef helper(y):\n    return y\n\ndef f(x):\n    return helper(x) * 2\n```",
        "First:\n```python\ndef f(x):\n    return 0\n```\nNo, better:\n```python\ndef f(x):\n    return x * 2\n```",
        "Try it:\n```python\ndef f(x):\n    return x * 2\n```\n```python\nprint(f(2))\n```",
        "Here it is.\ndef f(x):\n    # twice\n    return x * 2\n\nprint(f(3))\nI hope that helps.",
        "def f(x):\n    print('working')\n    return x * 2\nprint('[0]')",
        "from functools import lru_cache\n@lru_cache\ndef f(x):\n    return x * 2",
        "\tdef f(x):\n\t\treturn x * 2".replace("\tdef", "def", 1).replace("\t\t", "\t"),
        "    ```python\n    def f(x):\n        return x * 2\n    ```",
    ],
)
def test_right_code_is_found_in_many_kinds_of_reply(reply: str):
    assert CODEGEN.verify(DOUBLE, reply) == 1.0
    assert CODEGEN.parses(reply) is True


@pytest.mark.parametrize(
    "reply",
    [
        "def f(x): return x * 3",
        "def f(x): return 2.0 * x",  # a number with a fraction is another answer
        "def f(x): return str(2 * x)",
        "def f(x): print(2 * x)",
        "def g(x): return x * 2",
        "def f(): return 2",
        "def f(x): return [2 * x, 0][0:2]",
        "def f(x):\n    if x == 1000: raise ValueError\n    return 2 * x",
        "def f(x):\n    while x == 1000: pass\n    return 2 * x",
        "def f(x):\n    return {0: 0, 3: 6, -7: -14}.get(x)",
        "def f(x): return 2 * x if x < 1000 else 10 ** 6000",
        "def f(x): return float('nan')",
        "f = lambda x: 2 * x",  # no function is defined
        "def f(x): return x * 2\ndef f(x): return x * 3",
        "def f(x): return x * 2\ndef g(x): return x * 3",  # two answers, of which one may be right
        "def f(x) return x * 2",
        "2 * x",
    ],
)
def test_other_code_is_wrong(reply: str):
    assert CODEGEN.verify(DOUBLE, reply) == 0.0


FORGERIES = {
    "print what a grader might look for": "print('PASSED', 1.0, '[0, 6, -14, 2000]')\ndef f(x): return 0",
    "leave before the tests": "import os\nos._exit(0)\ndef f(x): return 0",
    "leave as if all were well": "import sys\ndef f(x): sys.exit(0)",
    "be equal to everything": """
class Any:
    def __eq__(self, other): return True
    def __repr__(self): return '0'
def f(x): return Any()""",
    "be a number that is equal to everything": """
class Any(int):
    def __eq__(self, other): return True
def f(x): return Any(0)""",
    "replace what writes the results": """
import json
json.dumps = lambda *a, **k: '[true, true, true, true]'
def f(x): return 0""",
    "read the expected values": """
import gc, sys
def f(x):
    for one in gc.get_objects():
        if isinstance(one, dict) and 'results' in one:
            return one['results'][one['calls'].index([x])]
    frame = sys._getframe()
    while frame:
        for value in list(frame.f_locals.values()):
            if isinstance(value, dict) and 'results' in value:
                return value['results'][value['calls'].index([x])]
        frame = frame.f_back
    return 0""",
    "write to every descriptor": """
import os
for descriptor in range(256):
    try: os.write(descriptor, b'[0, 6, -14]')
    except OSError: pass
def f(x): return 0""",
    "replace the function that is tried": """
import builtins
builtins.len = lambda x: 0
def f(x): return 0
globals()['__name__'] = 'f'""",
    "be named like the tests": "NAME = 'abs'\nnames = {}\ndef f(x): return abs(x)",
    "hang": "def f(x):\n    import time\n    time.sleep(60)",
    "take all memory": "def f(x): return [0] * 10**10",
    "print without end": "def f(x):\n    import os\n    while True: os.write(3, b'0' * 10000)",
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_verdict_cannot_be_forged(forgery: str):
    reply = f"```python\n{FORGERIES[forgery].strip()}\n```"
    assert CODEGEN.extract(reply) is not None
    assert CODEGEN.verify(DOUBLE, reply) == 0.0


def test_inputs_reach_each_call_unchanged():
    """A function that changes its argument changes its own alone."""
    given = Problem(
        "codegen", "k", "q", (), "", 1, {"function": "f", "calls": [[[1, 2]], [[3]]], "results": [2, 1]}
    )
    assert CODEGEN.verify(given, "def f(x):\n    n = len(x)\n    x.clear()\n    return n") == 1.0


def test_without_a_sandbox_nothing_is_scored(monkeypatch: pytest.MonkeyPatch):
    def refused(*_: object) -> Outcome:
        return Outcome(Fate.REFUSED, reason="not installed")

    monkeypatch.setattr(sandbox, "run", refused)
    assert CODEGEN.verify(DOUBLE, "def f(x): return x * 2") is None
    assert CODEGEN.parses("def f(x): return x * 2") is None
    assert CODEGEN.verify(DOUBLE, "I cannot answer that.") == 0.0


@pytest.mark.parametrize(
    ("reply", "parses"),
    [
        ("def f(x) return 1", False),
        ("def f(x): return (1", False),
        ("def f(x): return y", True),
        ("Hello", None),
    ],
)
def test_syntax_is_judged_apart(reply: str, parses: bool | None):
    assert CODEGEN.parses(reply) is parses


NEAR_MISSES = ((" > ", " >= "), (" < ", " <= "), (">=", ">"), (" + ", " - "), ("max", "min"), ("[:", "[-"))


@pytest.mark.parametrize("level", CODEGEN.levels)
def test_near_misses_are_told_apart(level: int):
    """The inputs hold the values at which a wrong border or number shows."""
    tried = told = 0
    for seed in range(60):
        problem = CODEGEN.make(Random(seed), level)
        for right, wrong in NEAR_MISSES:
            if (
                right in problem.expected and "len(set(" not in problem.expected
            ):  # which few changes would alter
                tried += 1
                told += CODEGEN.verify(problem, problem.expected.replace(right, wrong)) == 0.0
    assert tried > 20
    assert told / tried > 0.95


def test_the_tests_are_not_in_the_question():
    for seed in range(200):
        problem = CODEGEN.make(Random(seed), 1 + seed % 3)
        assert json.dumps(problem.facts["results"]) not in problem.prompt
        assert len(problem.facts["calls"]) == len(problem.facts["results"]) >= 6


def test_equal_code_is_equal_whatever_its_empty_lines():
    assert CODEGEN.same("def f(x):\n    return x", "def f(x):\n\n    return x   \n")
    assert not CODEGEN.same("def f(x):\n    return x", "def f(x):\n    return -x")


def test_a_users_row_may_have_functions_of_several_arguments():
    problem = CODEGEN.problem_of(CODEGEN.schema["examples"][0])
    assert CODEGEN.verify(problem, "def area(a, b): return b * a") == 1.0
    assert CODEGEN.verify(problem, "def area(a, b): return b + a") == 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("function", "os.system"),
        ("solution", "def area(width, height):\n    return 7"),
        ("tests", []),
        ("tests", [{"arguments": 3, "result": 9}]),
        ("tests", [{"arguments": [3]}]),
        ("tests", [3]),
    ],
)
def test_a_row_that_cannot_be_graded_is_refused(field: str, value: object):
    with pytest.raises(BadRequest, match=field):
        CODEGEN.problem_of({**CODEGEN.schema["examples"][0], field: value})


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    "junk",
    ["```" + " " * 300_000, "```" * 100_000, "def f(" * 50_000, "def f(x):\n" * 40_000, "answer: " * 50_000],
)
def test_junk_of_any_length_is_wrong_at_once(junk: str):
    assert CODEGEN.verify(DOUBLE, junk) == 0.0
