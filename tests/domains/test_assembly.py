"""Programs for the 6502: read, assembled, run with a bound; traces and written programs graded."""

from random import Random

import pytest

from studium.domains import assembly_machine as machine
from studium.domains.assembly import Assembly
from studium.domains.protocol import Problem
from studium.errors import BadRequest

ASSEMBLY = Assembly()
ADD = Problem(
    "assembly",
    "adds",
    "Write a 6502 program that adds the bytes at $10 and $11, modulo 256, and stores the sum at $0200.",
    (),
    "LDA $10; CLC; ADC $11; STA $0200",
    2,
    {
        "task": "write",
        "cases": [
            [[[16, a], [17, b]], [[512, (a + b) % 256]]] for a, b in ((0, 0), (255, 1), (3, 4), (200, 100))
        ],
    },
)


def code(text: str) -> machine.Code:
    found = machine.assemble(machine.read(text) or ())
    assert found is not None, text
    return found


@pytest.mark.parametrize(
    "reply",
    [
        "Answer: LDA $10; CLC; ADC $11; STA $0200",
        "Answer: clc; lda $11; adc $10; sta $200; brk",
        "Here:\n```asm\n    .org $0600\nstart:  LDA $10   ; first\n  CLC\n  ADC $11\n  STA 512\n  RTS\n```",
        "```\nLDX $11\nLDA $10\nLOOP: CPX #0\nBEQ DONE\nCLC\nADC #1\nDEX\nJMP LOOP\nDONE: STA $0200\n```",
        "JSR add; BRK; add: LDA $10; CLC; ADC $11; STA $0200; RTS",
    ],
)
def test_any_program_that_does_it_is_right(reply: str):
    assert ASSEMBLY.verify(ADD, reply if "Answer" in reply or "```" in reply else f"Answer: {reply}") == 1.0


@pytest.mark.parametrize(
    "reply",
    [
        "Answer: LDA $10; ADC $11; STA $0201",
        "Answer: LDA #$00; STA $0200",
        "Answer: LDA $10; ORA $11; STA $0200",
        "Answer: LDA $10; CLC; ADC $11; STA $0200; LOOP: JMP LOOP",  # never ends
        "Answer: LDA $10; CLC; ADC $11; STA $0200; BNE FAR",  # no such label
        "Answer: LDA $10; CLC; ADC $11; STA $0200; MOV A,B",
        "Answer: LDA $110000; CLC; ADC $11; STA $0200",
        "Answer: $0200",
        "Answer: " + "NOP; " * 500 + "RTS",
        "Answer: " + "LDA $10," * 5000,
        "Answer: LDA " + "$" * 2000,
        "Answer: BRK",
        "Answer: JMP $0000",
        "Answer: LDA #$4C; STA $0600; JMP $0600",  # changes itself and goes on for ever
    ],
)
def test_other_programs_are_wrong(reply: str):
    assert ASSEMBLY.verify(ADD, reply) == 0.0


def test_labels_may_come_before_or_after_and_branches_have_a_reach():
    near = "; ".join(["BNE END", *["NOP"] * 60, "END: RTS"])
    assert machine.assemble(machine.read(near) or ()) is not None
    far = "; ".join(["BNE END", *["LDA $0200"] * 50, "END: RTS"])
    assert machine.assemble(machine.read(far) or ()) is None


def test_a_program_without_end_stops_at_the_bound():
    ended = machine.run(code("LOOP: JMP LOOP"), {})
    assert not ended.halted
    ended = machine.run(
        code("LDA #1; PHA; RTS"), {}, tell=True
    )  # returns to nowhere: it runs through zeros, to BRK
    assert ended.halted
    assert [step.split(":")[0] for step in ended.steps] == ["LDA #1", "PHA", "RTS"]


def test_decimal_hexadecimal_and_binary_numbers_mean_what_they_say():
    for operand in ("#10", "#$0A", "#%1010"):
        assert machine.run(code(f"LDA {operand}"), {}).machine.a == 10


@pytest.mark.parametrize(
    "text", ["", "hello", "LDA #$05 please", "x = 3", "LABEL:", "A: B: LDA #1", "\x00", "LDA\n\n;"]
)
def test_what_is_no_program_is_not_read_as_one(text: str):
    statements = machine.read(text)
    assert statements is None or machine.assemble(statements) is None


@pytest.mark.parametrize(
    ("answer", "canonical"),
    [
        ("$0A", "$0A"), ("$a", "$0A"), ("0x0a", "$0A"), ("10", "$0A"), ("A = $0A", "$0A"), ("**$0A**", "$0A"),
        ("$0A (10 in decimal)", "$0A"), ("The byte at $0200 is $0A.", "$0A"), ("300", "$012C"), ("$0A or $0B", None),
        ("not $0A", None), ("ten", None), ("lda #$05;  sta $10", "LDA #$05; STA $10"),
    ],
)  # fmt: skip
def test_answers_have_one_form(answer: str, canonical: str | None):
    assert ASSEMBLY.canonical(answer) == canonical


def test_the_arithmetic_of_traces_is_that_of_bytes():
    """Every step of every trace is worked out again from its own line and the lines before, without py65."""
    checked = 0
    for seed in range(300):
        problem = ASSEMBLY.make(Random(seed), 1 + seed % 3)
        if problem.facts["task"] != "trace":
            continue
        state: dict[str, int] = {"A": 0, "X": 0, "Y": 0, "C": 0}
        for step in problem.steps:
            instruction, _, said = step.partition(": ")
            told = dict(part.split("=") for part in said.split(", ") if "=" in part)
            expected = worked_out(instruction, state)
            for place, value in told.items():
                number = int(value.removeprefix("$"), 16)
                assert expected[place] == number, f"{step} in {problem.steps}"
                checked += 1
            state |= expected
        place = problem.key.split(" after ")[0]
        assert state[place] == int(problem.expected[1:], 16)
    assert checked > 500


def worked_out(instruction: str, state: dict[str, int]) -> dict[str, int]:
    name, _, operand = instruction.partition(" ")
    value = int(operand[2:], 16) if operand.startswith("#") else state.get(operand, 0)
    a, carry = state["A"], state["C"]
    if name in ("ADC", "SBC"):
        total = a + carry + (value if name == "ADC" else 255 - value)
        return {"A": total % 256, "C": total // 256}
    if name in ("AND", "ORA", "EOR"):
        return {"A": {"AND": a & value, "ORA": a | value, "EOR": a ^ value}[name]}
    if name in ("ASL", "LSR"):
        return {"A": a * 2 % 256, "C": a // 128} if name == "ASL" else {"A": a // 2, "C": a % 2}
    if name in ("CLC", "SEC"):
        return {"C": int(name == "SEC")}
    if name[:2] in ("LD", "ST", "TA") and name[2] in "AXY":
        if name[:2] == "ST":
            return {operand: state[name[2]]}
        return {name[2]: value if name[:2] == "LD" else a}
    if name[:2] in ("IN", "DE"):
        place = operand if name in ("INC", "DEC") else name[2]
        return {place: (state[place] + (1 if name[0] == "I" else -1)) % 256}
    return {}


def test_steps_of_a_trace_are_verified_one_by_one_whatever_came_before():
    problem = next(
        made for seed in range(50) if (made := ASSEMBLY.make(Random(seed), 3)).facts["task"] == "trace"
    )
    for place, step in enumerate(problem.steps):
        done = ["nonsense"] * place
        assert ASSEMBLY.verify_step(problem, done, step) == 1.0
        assert ASSEMBLY.verify_step(problem, done, f" {step.lower()}") == 1.0
        assert ASSEMBLY.verify_step(problem, done, "NOP") == 0.0
    assert ASSEMBLY.verify_step(problem, problem.steps, f"Answer: {problem.expected}") == 1.0
    assert ASSEMBLY.verify_step(problem, problem.steps, "Answer: 5 and 6") == 0.0


def test_steps_of_a_written_program_are_not_graded_but_its_last_line_is():
    assert (
        ASSEMBLY.verify_step(ADD, (), "LDA $10: A is the first byte") is not None
    )  # the answer is its only line
    problem = next(
        made for seed in range(50) if (made := ASSEMBLY.make(Random(seed), 2)).facts["task"] == "write"
    )
    assert ASSEMBLY.verify_step(problem, (), problem.steps[0]) is None
    assert ASSEMBLY.verify_step(problem, problem.steps, f"Answer: {problem.expected}") == 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("solution", "LDA $10; STA $0200"),
        ("solution", "twice the byte"),
        ("tests", [{"start": {"$10": 256}, "end": {}}]),
        ("tests", [{"start": {"$99999": 1}, "end": {}}]),
        ("tests", [{"start": {}}]),
        ("tests", [{"start": {"$10": 5}, "end": {}}]),
    ],
)
def test_a_users_row_that_cannot_be_graded_is_refused(field: str, value: object):
    row = ASSEMBLY.schema["examples"][0]
    assert ASSEMBLY.verify(ASSEMBLY.problem_of(row), "Answer: LDA $10; CLC; ADC $10; STA $0200") == 1.0
    with pytest.raises(BadRequest, match=field):
        ASSEMBLY.problem_of({**row, field: value})
