"""The tasks of `assembly`: programs to be traced, and things that a program shall do, each with one that does them."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import NamedTuple

from studium.domains.assembly_machine import hexadecimal

_OUT = 0x0200


class Trace(NamedTuple):
    """A program of our making, and the register or address whose content is asked for."""

    program: Sequence[str]
    place: str


class Wish(NamedTuple):
    """What a program shall do: the words after "a program that", one that does it, and how that works.

    `reads` and `writes` are the addresses it starts from and is judged by.
    """

    words: str
    lines: Sequence[tuple[str, str]]
    reads: Sequence[int]
    writes: Sequence[int]


def trace(rng: Random, level: int) -> Trace:
    """Return a program without jumps (level 1), with memory (2) or with a loop (3)."""
    return (_straight, _with_memory, _with_loop)[level - 1](rng)


def wish(rng: Random, level: int) -> Wish:
    """Return something to store (level 1), to compute from two bytes (2) or from several (3)."""
    return (_store, _compute, _repeat)[level - 1](rng)


def memories(rng: Random, of: Wish) -> list[Mapping[int, int]]:
    """Return the memories to start a program from: zeros, the largest bytes, equal ones, and what comes by chance."""
    if not of.reads:
        return [{}]
    fixed = [dict.fromkeys(of.reads, value) for value in (0, 255, 7)]
    return [*fixed, *({place: _byte(rng) for place in of.reads} for _ in range(5))]


def _byte(rng: Random) -> int:
    return rng.choice((0, 1, 127, 128, 255)) if rng.random() < 0.2 else rng.randrange(256)


def _immediate(rng: Random) -> str:
    return f"#{hexadecimal(rng.randrange(1, 256))}"


def _operation(rng: Random) -> list[str]:
    kind = rng.randrange(4)
    if kind == 0:
        return ["CLC", f"ADC {_immediate(rng)}"]
    if kind == 1:
        return ["SEC", f"SBC {_immediate(rng)}"]
    if kind == 2:
        return [f"{rng.choice(('AND', 'ORA', 'EOR'))} {_immediate(rng)}"]
    return [rng.choice(("ASL A", "LSR A"))]


def _straight(rng: Random) -> Trace:
    program = [f"LDA {_immediate(rng)}", *_operation(rng), *_operation(rng)]
    if rng.random() < 0.3:
        index = rng.choice("XY")
        return Trace([*program, f"TA{index}", rng.choice((f"IN{index}", f"DE{index}"))], index)
    return Trace(program, "A")


def _with_memory(rng: Random) -> Trace:
    cell, out = hexadecimal(rng.randrange(0x10, 0x80)), hexadecimal(_OUT + rng.randrange(16))
    program = [f"LDA {_immediate(rng)}", f"STA {cell}", *_operation(rng)]
    program += rng.choice(([], [f"INC {cell}"], [f"DEC {cell}"]))
    program += rng.choice((["CLC", f"ADC {cell}"], ["SEC", f"SBC {cell}"], [f"EOR {cell}"], [f"ORA {cell}"]))
    return Trace([*program, f"STA {out}"], rng.choice(("A", out, cell)))


def _with_loop(rng: Random) -> Trace:
    index, out = rng.choice("XY"), hexadecimal(_OUT + rng.randrange(16))
    program = [f"LD{index} #{hexadecimal(rng.randint(2, 4))}", f"LDA {_immediate(rng)}"]
    first, *rest = _operation(rng)
    program += [f"LOOP: {first}", *rest, f"DE{index}", "BNE LOOP", f"STA {out}"]
    return Trace(program, rng.choice(("A", out)))


def _store(rng: Random) -> Wish:
    places = sorted(rng.sample(range(_OUT, _OUT + 64), rng.randint(1, 2)))
    values = [rng.randrange(1, 256) for _ in places]
    told, lines = [], []
    for place, value in zip(places, values, strict=True):
        told.append(f"{hexadecimal(value)} at {hexadecimal(place)}")
        lines += [
            (f"LDA #{hexadecimal(value)}", f"A is {hexadecimal(value)}"),
            (f"STA {hexadecimal(place)}", f"it goes to {hexadecimal(place)}"),
        ]
    return Wish(f"stores {' and '.join(told)}", lines, (), places)


def _compute(rng: Random) -> Wish:
    first, second = sorted(rng.sample(range(0x10, 0x80), 2))
    one, two = hexadecimal(first), hexadecimal(second)
    out_place = _OUT + rng.randrange(64)
    out = hexadecimal(out_place)
    load, store = (f"LDA {one}", "A is the first byte"), (f"STA {out}", f"the result goes to {out}")
    kind = rng.choice(("add", "subtract", "and", "or", "exclusive", "double", "constant"))
    if kind == "double":
        words = f"doubles the byte at {one}, modulo 256, and stores the result at {out}"
        return Wish(words, (load, ("ASL A", "twice as much"), store), (first,), (out_place,))
    if kind == "constant":
        value = hexadecimal(rng.randrange(1, 256))
        words = f"adds {value} to the byte at {one}, modulo 256, and stores the sum at {out}"
        lines = (load, ("CLC", "no carry comes in"), (f"ADC #{value}", f"{value} more"), store)
        return Wish(words, lines, (first,), (out_place,))
    words, middle = {
        "add": (
            f"adds the bytes at {one} and {two}, modulo 256, and stores the sum at {out}",
            (("CLC", "no carry comes in"), (f"ADC {two}", "the second byte is added")),
        ),
        "subtract": (
            f"subtracts the byte at {two} from the byte at {one}, modulo 256, and stores the difference at {out}",
            (("SEC", "nothing is borrowed"), (f"SBC {two}", "the second byte is taken away")),
        ),
        "and": (
            f"stores the bitwise and of the bytes at {one} and {two} at {out}",
            ((f"AND {two}", "bits that both have"),),
        ),
        "or": (
            f"stores the bitwise or of the bytes at {one} and {two} at {out}",
            ((f"ORA {two}", "bits that either has"),),
        ),
        "exclusive": (
            f"stores the bitwise exclusive or of the bytes at {one} and {two} at {out}",
            ((f"EOR {two}", "bits that one of them has"),),
        ),
    }[kind]
    return Wish(words, (load, *middle, store), (first, second), (out_place,))


def _repeat(rng: Random) -> Wish:
    number, start = rng.randint(3, 6), rng.randrange(0x10, 0x70)
    out_place, value = _OUT + rng.randrange(64), hexadecimal(rng.randrange(1, 256))
    begin, before = hexadecimal(start), hexadecimal(start - 1)
    out, out_before = hexadecimal(out_place), hexadecimal(out_place - 1)
    several, outs = range(start, start + number), range(out_place, out_place + number)
    count = (f"LDX #{hexadecimal(number)}", f"{number} times")
    again = (("DEX", "one less to do"), ("BNE LOOP", "until none is left"))
    kind = rng.choice(("sum", "copy", "fill", "zeros", "larger"))
    if kind == "sum":
        words = f"adds up the {number} bytes from {begin} on, modulo 256, and stores the sum at {out}"
        lines = [("LDA #$00", "the sum so far"), count, ("LOOP: CLC", "no carry comes in")]
        lines += [(f"ADC {before},X", "the last byte that is left"), *again, (f"STA {out}", "the sum")]
        return Wish(words, lines, several, (out_place,))
    if kind == "copy":
        words = f"copies the {number} bytes from {begin} on to {out} and the addresses after it"
        lines = [
            count,
            (f"LOOP: LDA {before},X", "the last byte that is left"),
            (f"STA {out_before},X", "its copy"),
        ]
        return Wish(words, [*lines, *again], several, outs)
    if kind == "fill":
        words = f"fills the {number} bytes from {out} on with {value}"
        lines = [
            (f"LDA #{value}", "what to fill with"),
            count,
            (f"LOOP: STA {out_before},X", "the last one left"),
        ]
        return Wish(words, [*lines, *again], (), outs)
    if kind == "zeros":
        words = (
            f"counts how many of the {number} bytes from {begin} on are zero and stores the count at {out}"
        )
        lines = [("LDY #$00", "none so far"), count, (f"LOOP: LDA {before},X", "the last byte that is left")]
        lines += [("BNE NEXT", "it is not zero"), ("INY", "one more")]
        return Wish(
            words,
            [*lines, ("NEXT: DEX", again[0][1]), again[1], (f"STY {out}", "the count")],
            several,
            (out_place,),
        )
    other = hexadecimal(start + number)
    words = f"stores the larger of the bytes at {begin} and {other} at {out}"
    lines = [(f"LDA {begin}", "the first byte"), (f"CMP {other}", "carry where it is not smaller")]
    lines += [
        ("BCS DONE", "then it is the one"),
        (f"LDA {other}", "else the second"),
        (f"DONE: STA {out}", "the larger"),
    ]
    return Wish(words, lines, (start, start + number), (out_place,))
