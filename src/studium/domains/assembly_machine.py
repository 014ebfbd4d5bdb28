"""Programs for the 6502: read from text, assembled, run with a bound, and told step by step.

The processor and the assembler of single statements are those of py65; labels, separators and the bound are ours.
What runs is simulated in memory of its own: it cannot reach this machine, whoever wrote it.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from py65.devices.mpu6502 import MPU

ORIGIN = 0x0600
MOST_STEPS = 2000
MOST_INSTRUCTIONS = 100
LONGEST_TEXT_CHARACTERS = 4000
_LONGEST_LINE_CHARACTERS = 80
_BRANCHES = ("BCC", "BCS", "BEQ", "BMI", "BNE", "BPL", "BVC", "BVS")
# What a step tells: registers and flags by letter, M for the byte of memory the operand names.
_TELLS = {
    mnemonic: tells
    for tells, mnemonics in (
        ("A", ("LDA", "TXA", "TYA", "AND", "ORA", "EOR")),
        ("X", ("LDX", "TAX", "INX", "DEX")),
        ("Y", ("LDY", "TAY", "INY", "DEY")),
        ("M", ("STA", "STX", "STY", "INC", "DEC")),
        ("AC", ("ADC", "SBC", "ASL", "LSR")),
        ("CZ", ("CMP", "CPX", "CPY")),
        ("C", ("CLC", "SEC")),
    )
    for mnemonic in mnemonics
}
_OTHERS = (
    *("BIT", "BRK", "CLD", "CLI", "CLV", "JMP", "JSR", "NOP", "PHA", "PHP"),
    *("PLA", "PLP", "ROL", "ROR", "RTI", "RTS", "SED", "SEI", "TSX", "TXS"),
)
MNEMONICS = frozenset((*_TELLS, *_BRANCHES, *_OTHERS))
_STATEMENT = re.compile(r"(?:([A-Z_]\w*):)?\s*(?:([A-Z]{3})(?:\s+(\S.*))?)?", re.IGNORECASE | re.ASCII)
_IGNORED = re.compile(r"\.?org\b|\*\s*=", re.IGNORECASE)
_BREAK, _RETURN = 0x00, 0x60


class Statement(NamedTuple):
    """One instruction in capitals, with the label before it, if there is one."""

    label: str
    mnemonic: str
    operand: str

    def __str__(self) -> str:
        return f"{self.label + ': ' if self.label else ''}{self.instruction}"

    @property
    def instruction(self) -> str:
        return f"{self.mnemonic} {self.operand}".strip()


class Code(NamedTuple):
    """An assembled program: its bytes, and which statement begins at which address."""

    data: bytes
    statements: Mapping[int, Statement]


class Ended(NamedTuple):
    """The machine after a program, and what each step did; `halted` is False where the bound was reached."""

    machine: "MPU"
    steps: Sequence[str]
    halted: bool


def read(text: str) -> list[Statement] | None:
    """Return the statements of a program, or None where the text is none.

    In a text of one line semicolons separate statements, in a longer one they begin comments.
    """
    if len(text) > LONGEST_TEXT_CHARACTERS:
        return None
    lines = [line.split(";")[0] for line in text.splitlines()] if "\n" in text.strip() else text.split(";")
    found: list[Statement] = []
    waiting = ""
    for line in (line.strip() for line in lines):
        if not line or _IGNORED.match(line):
            continue
        match = _STATEMENT.fullmatch(line) if len(line) <= _LONGEST_LINE_CHARACTERS else None
        if match is None or (match[2] and match[2].upper() not in MNEMONICS):
            return None
        waiting = (match[1] or waiting).upper()
        if match[2]:
            found.append(Statement(waiting, match[2].upper(), "".join((match[3] or "").split()).upper()))
            waiting = ""
    return found if 0 < len(found) <= MOST_INSTRUCTIONS and not waiting else None


def assemble(statements: Sequence[Statement]) -> Code | None:
    """Return a program as bytes from `ORIGIN` on, or None where a statement is none of the 6502's.

    Numbers are decimal without a sign before them, hexadecimal after `$`, binary after `%`.
    """
    # Labels lie behind the zero page, so that a first round with any such address gives every length.
    labels = {one.label: ORIGIN for one in statements if one.label}
    first = _lay_out(statements, labels)
    if first is None:
        return None
    labels = {one.label: place for place, one in first.statements.items() if one.label}
    if any(_too_far(one, place, labels) for place, one in first.statements.items()):
        return None
    return _lay_out(statements, labels)


def run(code: Code, memory: Mapping[int, int], *, tell: bool = False) -> Ended:
    """Run a program on a machine whose memory is zero but for `memory`, until it ends or `MOST_STEPS` are done.

    It ends behind its last statement, at BRK, and at an RTS that nothing called.
    """
    from py65.devices.mpu6502 import MPU

    machine = MPU(pc=ORIGIN)
    machine.memory[ORIGIN : ORIGIN + len(code.data)] = list(code.data)
    for address, value in memory.items():
        machine.memory[address] = value
    steps: list[str] = []
    for _ in range(MOST_STEPS):
        opcode, place = machine.memory[machine.pc], machine.pc
        if place == ORIGIN + len(code.data) or opcode == _BREAK or (opcode == _RETURN and machine.sp == 0xFF):
            return Ended(machine, steps, halted=True)
        machine.step()
        if tell and place in code.statements:
            steps.append(_told(code.statements[place], place, machine))
    return Ended(machine, steps, halted=False)


def _lay_out(statements: Sequence[Statement], labels: Mapping[str, int]) -> Code | None:
    from py65.assembler import Assembler
    from py65.devices.mpu6502 import MPU
    from py65.utils.addressing import AddressParser

    assembler = Assembler(MPU(memory=[]), AddressParser(radix=10, labels=labels))
    data, places = bytearray(), dict[int, Statement]()
    for one in statements:
        place = ORIGIN + len(data)
        try:
            data.extend(assembler.assemble(one.instruction, place))
        except (SyntaxError, KeyError, OverflowError, ValueError, IndexError):
            return None
        places[place] = one
    return Code(bytes(data), places)


def _too_far(statement: Statement, place: int, labels: Mapping[str, int]) -> bool:
    """Say whether a branch leaves its reach, which py65's assembler would wrap around in silence."""
    if statement.mnemonic not in _BRANCHES:
        return False
    target = labels.get(statement.operand)
    return target is None or not -128 <= target - place - 2 <= 127


def _told(statement: Statement, place: int, machine: "MPU") -> str:
    if statement.mnemonic in _BRANCHES:
        return f"{statement.instruction}: {'not taken' if machine.pc == place + 2 else 'taken'}"
    shows = _TELLS.get(statement.mnemonic, "")
    if statement.operand.startswith("$") and shows == "AC" and statement.mnemonic in ("ASL", "LSR"):
        shows = "MC"
    return f"{statement.instruction}: {', '.join(_shown(what, statement, machine) for what in shows)}".rstrip(
        ": "
    )


def _shown(what: str, statement: Statement, machine: "MPU") -> str:
    if what == "C":
        return f"C={machine.p & machine.CARRY}"
    if what == "Z":
        return f"Z={int(bool(machine.p & machine.ZERO))}"
    if what == "M":
        address, _, index = statement.operand.partition(",")
        place = int(address.removeprefix("$"), 16) + {"": 0, "X": machine.x, "Y": machine.y}[index]
        return f"{hexadecimal(place)}={hexadecimal(machine.memory[place])}"
    return f"{what}={hexadecimal({'A': machine.a, 'X': machine.x, 'Y': machine.y}[what])}"


def hexadecimal(value: int) -> str:
    """Return a number as the 6502's manuals write it: `$0A`, and `$0200` from 256 on."""
    return f"${value:02X}" if value < 256 else f"${value:04X}"
