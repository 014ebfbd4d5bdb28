"""Three drills to train students on: long chains of small steps, each of which can be verified on its own.

All count modulo 10. Levels 1 to 8 are so many steps of `+`, `-` and `*`; levels 11 to 18 are so many steps less ten of
`@`, which is made up: a@b is a's partner among the digits, another one for odd b. Nothing but examples or trying says
which, so a student that knows the first levels has 20 facts to learn. `chains` work left to right, `registers` run a
program on three registers, `stacks` evaluate postfix notation, rewriting it. A step restates what it uses, and
an expert's thought says what comes next.
"""

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import NamedTuple

from studium.domains.exact import ExactDomain
from studium.domains.numbers import one_number
from studium.domains.protocol import Problem, Rule

Calculate = Callable[[int, str, int], int]
"""Works one step out: (left digit, operation, right digit) -> digit."""

MADE_UP_FROM = 10
PARTNERS = tuple(tuple(Random(f"partners/{odd}").sample(range(10), 10)) for odd in (0, 1))
_ANSWER = re.compile(r"\d")
_FIRST_OPERATION = re.compile(r"\d\d[-+*@]")


def calculate(one: int, operation: str, other: int) -> int:
    """Return the right result of a step."""
    match operation:
        case "+":
            return (one + other) % 10
        case "-":
            return (one - other) % 10
        case "*":
            return one * other % 10
        case _:
            return PARTNERS[other % 2][one]


class Step(NamedTuple):
    """One step as an expert writes it, and what the expert thinks before."""

    thought: str
    text: str


class Drill(ExactDomain):
    """Base of the drills: a task is a short text, and its steps follow from it."""

    levels = (*range(1, 9), *range(11, 19))
    wrong_answers = 9.0
    rules: Sequence[Rule] = (
        Rule("modulo", "Every result is taken modulo 10."),
        Rule("steps", "One line per step, each restating what it uses."),
        Rule("answer", "End with a line 'Answer: ' and the digit."),
    )
    task: re.Pattern[str]

    def write(self, rng: Random, steps: int, operations: str) -> str:
        """Return a task of so many steps of the operations."""
        raise NotImplementedError

    def work(self, task: str, result: Calculate = calculate) -> tuple[list[Step], str]:
        """Return a task's steps, and its answer. `result` is how somebody calculates who may be wrong."""
        raise NotImplementedError

    def make(self, rng: Random, level: int) -> Problem:
        made_up = level > MADE_UP_FROM
        task = self.write(rng, level - MADE_UP_FROM * made_up, "@" if made_up else "+-*")
        steps, answer = self.work(task)
        return Problem(
            domain=self.name,
            key=task,
            prompt=f"{self.name} {task}",
            steps=tuple(step.text for step in steps),
            expected=answer,
            level=level,
            facts={"task": task},
        )

    def recognises(self, question: str) -> bool:
        return self._task_of(question) is not None

    def canonical(self, answer: str) -> str | None:
        found = _ANSWER.findall(answer)
        return found[0] if len(found) == 1 and one_number(answer) == found[0] else None

    def check(self, question: str, reply: str) -> float | None:
        """Return 1.0 or 0.0 for a reply to a plain question; None where it is no drill or claims nothing."""
        task, answer = self._task_of(question), self.extract(reply)
        return None if task is None or answer is None else float(answer == self.work(task)[1])

    def verify_step(self, problem: Problem, done: Sequence[str], step: str) -> float | None:
        """Return 1.0 for the one right next line, else 0.0; None after steps that are wrong already.

        After a wrong step nothing says what would be right.
        """
        lines = [*problem.steps, f"Answer: {problem.expected}"]
        if list(done) != lines[: len(done)] or len(done) >= len(lines):
            return None
        return float(step.strip() == lines[len(done)])

    def thoughts(self, problem: Problem) -> Sequence[str]:
        steps, answer = self.work(problem.key)
        return [*(step.thought for step in steps), f"end {answer}"]

    def _task_of(self, question: str) -> str | None:
        name, _, task = question.strip().partition(" ")
        return task if name == self.name and self.task.fullmatch(task) else None


class Chains(Drill):
    """A chain of operations on digits, from left to right: 7+9*8 is (7+9)*8."""

    name = "chains"
    task = re.compile(r"\d([-+*@]\d){1,12}")

    def write(self, rng: Random, steps: int, operations: str) -> str:
        return str(rng.randrange(10)) + "".join(
            f"{rng.choice(operations)}{rng.randrange(10)}" for _ in range(steps)
        )

    def work(self, task: str, result: Calculate = calculate) -> tuple[list[Step], str]:
        value, steps = int(task[0]), list[Step]()
        for at in range(1, len(task), 2):
            operation, operand = task[at], int(task[at + 1])
            found = result(value, operation, operand)
            steps.append(Step(f"next {operation}{operand}", f"{value}{operation}{operand}={found}"))
            value = found
        return steps, str(value)


class Registers(Drill):
    """A program on registers a, b and c: `a+b` adds b to a. A step gives the instruction and all registers after it."""

    name = "registers"
    task = re.compile(r"a\db\dc\d(,(a[-+*@][bc]|b[-+*@][ac]|c[-+*@][ab])){1,12}")

    def write(self, rng: Random, steps: int, operations: str) -> str:
        begin = "".join(f"{name}{rng.randrange(10)}" for name in "abc")
        pairs = [rng.sample("abc", 2) for _ in range(steps)]
        return ",".join([begin, *(f"{one}{rng.choice(operations)}{other}" for one, other in pairs)])

    def work(self, task: str, result: Calculate = calculate) -> tuple[list[Step], str]:
        begin, *program = task.split(",")
        registers, steps = dict(zip("abc", map(int, begin[1::2]), strict=True)), list[Step]()
        for target, operation, source in program:
            one, other = registers[target], registers[source]
            registers[target] = result(one, operation, other)
            text = f"{target}{operation}{source}:{one}{operation}{other}={registers[target]}"
            after = "".join(f"{name}{value}" for name, value in registers.items())
            steps.append(Step(f"next {target}{operation}{source}", f"{text} {after}"))
        return steps, str(registers[program[-1][0]])


class Stacks(Drill):
    """Postfix notation: the first operation takes the two digits before it. A step gives what is left to be done."""

    name = "stacks"
    task = re.compile(r"[-+*@\d]{3,40}")

    def write(self, rng: Random, steps: int, operations: str) -> str:
        tokens, height, left = [str(rng.randrange(10))], 1, steps
        while left or height > 1:
            pushes = height < 2 or (height < 4 and height <= left and rng.random() < 0.4)
            if pushes:
                tokens.append(str(rng.randrange(10)))
                height += 1
            else:
                tokens.append(rng.choice(operations))
                height, left = height - 1, max(0, left - 1)
        return "".join(tokens)

    def work(self, task: str, result: Calculate = calculate) -> tuple[list[Step], str]:
        steps = list[Step]()
        while found := _FIRST_OPERATION.search(task):
            one, other, operation = found.group()
            value = result(int(one), operation, int(other))
            task = f"{task[: found.start()]}{value}{task[found.end() :]}"
            steps.append(Step(f"next {operation}", f"{one}{operation}{other}={value} {task}"))
        return steps, task

    def _task_of(self, question: str) -> str | None:
        task = super()._task_of(question)
        height = 0
        for token in task or "":
            height += 1 if token.isdigit() else -1
            if height < 1:
                return None
        return task if height == 1 else None


def drills() -> tuple[Drill, ...]:
    return (Chains(), Registers(), Stacks())
