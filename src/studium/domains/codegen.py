"""Small Python functions, written by a model and tried in the sandbox on inputs the model has not seen.

A verdict cannot be talked into being: inputs go into the sandbox, results come out and are compared here with
values that were never inside. 1.0 only where all results are right; None where no sandbox exists, which is "not
scored". What a program prints is thrown away, and what it forges must still be the right results.
"""

import json
import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from studium.domains import codegen_tasks
from studium.domains.answers import abstains
from studium.domains.code_rows import FUNCTION_SCHEMA, calls_of, function_of
from studium.domains.protocol import Problem, Rule
from studium.domains.rows import text_of
from studium.domains.wording import Phrasebook
from studium.errors import BadRequest
from studium.tools.outcome import Fate, Limits, Outcome

LIMITS = Limits(cpu_s=2, wall_s=4.0, memory_bytes=192 * 1024**2, output_bytes=256 * 1024)
LONGEST_CODE_CHARACTERS = 20_000
_TEMPLATES = {
    "write": (
        "Write a Python function {signature} that {words}.",
        "Write a function {signature} in Python that {words}.",
        "Write Python code: a function {signature} that {words}.",
        "In Python, define a function {signature} that {words}.",
        "Implement a Python function {signature} that {words}.",
        "I need a Python function {signature} that {words}.",
    )
}
_NAMES = ("f", "g", "solve", "compute", "transform", "work", "calculate", "apply_rule")
_FENCED = re.compile(
    r"```[ \t]{0,3}(?:(?:python3?|py)[ \t]{0,3})?\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE
)
_DEFINES = re.compile(r"^\s*(?:async )?def \w+\s*\(", re.MULTILINE)
_TOP_LEVEL = re.compile(r"^(?:async )?def (\w+)", re.MULTILINE)
_WORD = re.compile(r"[^\W\d]\w*")
_BEGINS = re.compile(r"^(?=(?:def|import|from|class) \w|@\w)", re.MULTILINE)
_STATED = re.compile(r"^answer\s*:\s*(?=(?:def|import|from|class) \w|@\w)", re.IGNORECASE | re.MULTILINE)
_BELONGS = re.compile(
    r"\s|$|[#@)\]}]|(?:def|class|import|from|if|for|while|try|with|else|elif|except)\b|\w+ ?[=([.]"
)
_HARNESS = """
import json, os, sys
results = os.dup(1)
silence = os.open("/dev/null", os.O_WRONLY)
os.dup2(silence, 1)
os.dup2(silence, 2)
given = sys.stdin.read()
names = {"__name__": "solution"}
exec(compile(SOURCE, "solution.py", "exec"), names)
found = [names[NAME](*arguments) for arguments in json.loads(given)]
with os.fdopen(results, "w") as file:
    file.write(json.dumps(found, allow_nan=False))
"""


class Codegen:
    """Write a Python function with one argument."""

    name = "codegen"
    levels: tuple[int, ...] = (1, 2, 3)
    schema = FUNCTION_SCHEMA
    metrics = ("accuracy", "syntax", "pass@k")
    rules: Sequence[Rule] = (
        Rule("name", "The function has the name and the argument that were asked for."),
        Rule("returns", "It returns its result; what it prints does not count."),
        Rule("one", "One function of that name, and no other that it does not use."),
        Rule("plain", "Numbers, texts, lists and truth values only; the standard library is there."),
        Rule("answer", "End with the code in a block that starts with ```python."),
    )
    phrases = Phrasebook(
        _TEMPLATES, {"signature": r"[a-z_]\w*\([a-z_]\w*\)", "words": codegen_tasks.any_words()}
    )

    def make(self, rng: Random, level: int) -> Problem:
        while True:
            task, name = codegen_tasks.draw(rng, level), rng.choice(_NAMES)
            signature = f"{name}({task.argument})"
            code = "\n    ".join([f"def {signature}:", *task.body])
            arguments = codegen_tasks.inputs(rng, task)
            results = _try(code, name, arguments)
            if _telling(results):
                break
        return Problem(
            domain=self.name,
            key=task.words,
            prompt=self.phrases.ask(rng, "write", signature=signature, words=task.words),
            steps=tuple(task.steps),
            expected=code,
            level=level,
            facts={
                "task": "write",
                "function": name,
                "calls": [[one] for one in arguments],
                "results": results,
            },
        )

    def problem_of(self, row: Mapping[str, Any]) -> Problem:
        question, name, code = text_of(row, "question"), function_of(row), _tidy(text_of(row, "solution"))
        calls = calls_of(row)
        facts = {"task": "write", "function": name, "calls": calls.arguments, "results": calls.results}
        problem = Problem(self.name, question.casefold(), question, (), code, 0, facts)
        if self.verify(problem, self.solution(problem)) == 0.0:
            raise BadRequest(
                "field 'solution' does not pass the row's tests", expected="a function that does"
            )
        return problem

    def recognises(self, question: str) -> bool:
        # Every wording has the word; without this, whoever asks something else would pay for the patterns.
        return "python" in question.casefold() and self.phrases.read(question) is not None

    def solution(self, problem: Problem) -> str:
        return "\n".join((*problem.steps, "```python", problem.expected, "```"))

    def extract(self, reply: str) -> str | None:
        """Return the code in a reply: the last block that defines a function, else the lines that look like code."""
        if abstains(reply):
            return None
        blocks = [block for block in _FENCED.findall(reply) if _DEFINES.search(block)]
        code = blocks[-1] if blocks else _bare(reply)
        return _tidy(code) if code and _DEFINES.search(code) else None

    def same(self, one: str, other: str) -> bool:
        return _tidy(one) == _tidy(other)

    def verify(self, problem: Problem, reply: str) -> float | None:
        if problem.domain != self.name:
            return None
        code = self.extract(reply)
        name = str(problem.facts["function"])
        if code is None or len(code) > LONGEST_CODE_CHARACTERS or _sprays(code, name):
            return 0.0
        program = f"SOURCE = {code!r}\nNAME = {name!r}\n{_HARNESS}"
        outcome = _run(program, json.dumps(problem.facts["calls"]))
        if outcome.fate is Fate.REFUSED:
            return None
        right = json.dumps(problem.facts["results"])
        return float(outcome.fate is Fate.DONE and outcome.stdout == right)

    def parses(self, reply: str) -> bool | None:
        """Say whether the code in a reply compiles; None where there is none, or no sandbox to try it in."""
        code = self.extract(reply)
        if code is None or len(code) > LONGEST_CODE_CHARACTERS:
            return None if code is None else False
        fate = _run(f"compile({code!r}, 'solution.py', 'exec')").fate
        return None if fate is Fate.REFUSED else fate is Fate.DONE


def _run(program: str, stdin: str = "") -> Outcome:
    from studium.tools import sandbox

    return sandbox.run(program, stdin, LIMITS)


def _try(code: str, name: str, arguments: Sequence[Any]) -> list[Any]:
    """Return what a reference gives; it is put together from pieces of `codegen_tasks`, not written by a model."""
    names: dict[str, Any] = {}
    exec(code, names)
    return [names[name](argument) for argument in arguments]


def _telling(results: Sequence[Any]) -> bool:
    """Say whether results differ enough that no constant, and hardly a guess, gives them all."""
    most = max(results.count(result) for result in results)
    return most <= len(results) * (0.8 if isinstance(results[0], bool) else 0.6)


def _sprays(code: str, name: str) -> bool:
    """Say whether code offers several answers: a function twice, or one that nothing uses and nobody asked for."""
    defined = _TOP_LEVEL.findall(code)
    rest = set(_WORD.findall(_TOP_LEVEL.sub("", code)))
    return len(defined) != len(set(defined)) or any(one != name and one not in rest for one in defined)


def _bare(reply: str) -> str:
    """Return the lines from where code begins to where it ends; of several that are called the answer, the last."""
    begins = list(_STATED.finditer(reply))[-1:] or list(_BEGINS.finditer(reply))[:1]
    if not begins:
        return ""
    lines: list[str] = []
    for line in reply[begins[0].end() :].splitlines():
        if not _BELONGS.match(line):
            break
        lines.append(line)
    return "\n".join(lines)


def _tidy(code: str) -> str:
    """Return code without empty lines, trailing spaces and the indentation all lines share."""
    lines = [line.rstrip() for line in code.expandtabs(4).splitlines() if line.strip()]
    shared = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    return "\n".join(line[shared:] for line in lines)
