"""Programs for the 6502 processor: trace a small one, or write one that does something.

A traced program has one outcome, a byte. A written one is assembled and run from several memories, with a bound on
its steps, and the addresses it was to fill are compared: any program that does it is right. The steps of a trace
are what each instruction did; those of a written program say what each of its lines is for.
"""

import re
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from studium.domains import assembly_machine as machine
from studium.domains import assembly_tasks as tasks
from studium.domains.answers import final_answer
from studium.domains.assembly_machine import hexadecimal
from studium.domains.code_rows import PROGRAM_SCHEMA, cases_of
from studium.domains.exact import ExactDomain
from studium.domains.protocol import Problem, Rule
from studium.domains.rows import text_of
from studium.domains.wording import Phrasebook
from studium.errors import BadRequest

_TEMPLATES = {
    "trace": (
        "What is in {place} after this 6502 program?\n{program}",
        "Run this 6502 program:\n{program}\nWhat is in {place} at the end?",
        "Trace this 6502 program: {program}. What is in {place}?",
        "6502: {program}. What is in {place} at the end?",
        "What does this 6502 program leave in {place}? {program}",
    ),
    "write": (
        "Write a 6502 program that {words}.",
        "Write a program for the 6502 that {words}.",
        "Write 6502 assembly that {words}.",
        "In 6502 assembly, write a program that {words}.",
        "I need a 6502 program that {words}.",
    ),
}
_BYTE = r"\$[0-9a-f]{2}"
_ADDRESS = r"\$[0-9a-f]{2,4}"
_OPERAND = rf"(?: (?:#?{_ADDRESS}(?:,[xy])?|a|loop))?"
_INSTRUCTION = rf"(?:loop: )?(?:{'|'.join(sorted(machine.MNEMONICS)).lower()}){_OPERAND}"
_WORDS = (
    rf"stores {_BYTE} at {_ADDRESS}(?: and {_BYTE} at {_ADDRESS})?",
    rf"doubles the byte at {_ADDRESS}, modulo 256, and stores the result at {_ADDRESS}",
    rf"adds {_BYTE} to the byte at {_ADDRESS}, modulo 256, and stores the sum at {_ADDRESS}",
    rf"adds the bytes at {_ADDRESS} and {_ADDRESS}, modulo 256, and stores the sum at {_ADDRESS}",
    rf"subtracts the byte at {_ADDRESS} from the byte at {_ADDRESS}, modulo 256, "
    rf"and stores the difference at {_ADDRESS}",
    rf"stores the (?:bitwise (?:and|or|exclusive or)|larger) of the bytes at {_ADDRESS} and {_ADDRESS} at {_ADDRESS}",
    rf"adds up the \d+ bytes from {_ADDRESS} on, modulo 256, and stores the sum at {_ADDRESS}",
    rf"copies the \d+ bytes from {_ADDRESS} on to {_ADDRESS} and the addresses after it",
    rf"fills the \d+ bytes from {_ADDRESS} on with {_BYTE}",
    rf"counts how many of the \d+ bytes from {_ADDRESS} on are zero and stores the count at {_ADDRESS}",
)
_SLOTS = {
    "place": rf"(?:[axy]|{_ADDRESS})",
    "program": rf"{_INSTRUCTION}(?:;? {_INSTRUCTION})*",
    "words": "|".join(_WORDS),
}
_VALUE = re.compile(
    r"(?:(?:register |the accumulator |the byte at )?(?:[axy]|\$[0-9a-f]{2,4}) *(?:=|:|\bis\b) *)?"
    r"(?:\$([0-9a-f]{1,4})|0x([0-9a-f]{1,4})|(\d{1,5}))(?: *\([^()]*\))?",
    re.IGNORECASE,
)
_LONGEST_VALUE_CHARACTERS = 80
_FENCED = re.compile(r"```[^\n]{0,30}\n(.*?)(?:```|\Z)", re.DOTALL)


class Assembly(ExactDomain):
    """Trace and write programs for the 6502."""

    name = "assembly"
    schema = PROGRAM_SCHEMA
    metrics = ("accuracy",)
    rules: Sequence[Rule] = (
        Rule("bytes", "Everything is a byte: sums and differences are taken modulo 256."),
        Rule("carry", "ADC adds the carry and sets it above 255; SBC takes one more where it is clear."),
        Rule("memory", "All registers and all memory are zero at the start, unless something else is said."),
        Rule("trace", "One line per instruction that runs: the instruction and what it changed."),
        Rule(
            "answer",
            "End with 'Answer: ' and the byte, as $0A, or the program in one line, as LDA $10; STA $0200.",
        ),
    )
    phrases = Phrasebook(_TEMPLATES, _SLOTS)

    def make(self, rng: Random, level: int) -> Problem:
        return self._trace(rng, level) if rng.random() < 0.5 else self._write(rng, level)

    def problem_of(self, row: Mapping[str, Any]) -> Problem:
        question, program = text_of(row, "question"), self.canonical(text_of(row, "solution"))
        facts = {"task": "write", "cases": cases_of(row)}
        problem = Problem(self.name, question.casefold(), question, (), program or "", 0, facts)
        if self.verify(problem, self.solution(problem)) != 1.0:
            raise BadRequest("field 'solution' does not pass the row's tests", expected="a program that does")
        return problem

    def recognises(self, question: str) -> bool:
        return "6502" in question and super().recognises(question)

    def canonical(self, answer: str) -> str | None:
        """Return a program as one line in capitals, or a byte as `$0A`."""
        if statements := machine.read(answer):
            return "; ".join(map(str, statements))
        value = _VALUE.fullmatch(answer[:_LONGEST_VALUE_CHARACTERS].strip("`*_ .\n"))
        if value is None:
            return None
        high, named, plain = value.groups()
        return hexadecimal(int(high or named, 16) if high or named else int(plain))

    def extract(self, reply: str) -> str | None:
        """Return the byte or the program in a reply: from its last line, else from its last block that is a program."""
        stated = final_answer(reply)
        found = None if stated is None or stated.startswith("```") else self.canonical(stated)
        if found is not None:
            return found
        programs = [read for block in _FENCED.findall(reply) if (read := machine.read(block))]
        return "; ".join(map(str, programs[-1])) if programs else super().extract(reply)

    def verify(self, problem: Problem, reply: str) -> float | None:
        if problem.domain != self.name or problem.facts["task"] == "trace":
            return super().verify(problem, reply)
        answer = self.extract(reply)
        return float(answer is not None and _does(answer, problem))

    def verify_step(self, problem: Problem, done: Sequence[str], step: str) -> float | None:
        """Score a line of a trace against what the machine does there, whatever the lines before claimed.

        None for the lines of a written program but its last: many programs are right.
        """
        if problem.domain != self.name:
            return None
        if len(done) >= len(problem.steps):
            return self.verify(problem, step)
        if problem.facts["task"] != "trace":
            return None
        return float(_plain(step) == _plain(problem.steps[len(done)]))

    def _trace(self, rng: Random, level: int) -> Problem:
        drawn = tasks.trace(rng, level)
        ended = machine.run(_code("; ".join(drawn.program)), {}, tell=True)
        separator = rng.choice(("; ", "\n"))
        return Problem(
            domain=self.name,
            key=f"{drawn.place} after {'; '.join(drawn.program)}",
            prompt=self.phrases.ask(rng, "trace", place=drawn.place, program=separator.join(drawn.program)),
            steps=tuple(ended.steps),
            expected=hexadecimal(_content(ended, drawn.place)),
            level=level,
            facts={"task": "trace"},
        )

    def _write(self, rng: Random, level: int) -> Problem:
        wish = tasks.wish(rng, level)
        program = "; ".join(line for line, _ in wish.lines)
        code = _code(program)
        cases: list[list[list[list[int]]]] = []
        for memory in tasks.memories(rng, wish):
            ended = machine.run(code, memory)
            wanted = [[place, ended.machine.memory[place]] for place in wish.writes]
            cases.append([[[place, value] for place, value in memory.items()], wanted])
        return Problem(
            domain=self.name,
            key=wish.words,
            prompt=self.phrases.ask(rng, "write", words=wish.words),
            steps=tuple(f"{line}: {why}" for line, why in wish.lines),
            expected=program,
            level=level,
            facts={"task": "write", "cases": cases},
        )


def _code(program: str) -> machine.Code:
    """Assemble a program of our own."""
    code = machine.assemble(machine.read(program) or ())
    assert code is not None, program
    return code


def _does(program: str, problem: Problem) -> bool:
    """Say whether a program does what was asked, from every memory."""
    statements = machine.read(program)
    code = machine.assemble(statements) if statements else None
    if code is None:
        return False
    for memory, wanted in problem.facts["cases"]:
        ended = machine.run(code, dict(memory))
        if not ended.halted or any(ended.machine.memory[place] != value for place, value in wanted):
            return False
    return True


def _content(ended: machine.Ended, place: str) -> int:
    registers = {"A": ended.machine.a, "X": ended.machine.x, "Y": ended.machine.y}
    return registers[place] if place in registers else ended.machine.memory[int(place[1:], 16)]


def _plain(step: str) -> str:
    return "".join(step.split()).casefold().rstrip(".")
