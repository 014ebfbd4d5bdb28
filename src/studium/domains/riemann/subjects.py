"""The parts of the topic: what each is about, an example of a claim, and who works on it first."""

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Subject:
    """A part of the topic. `functions` are those whose claims belong to it; `examples` hold and are tested."""

    name: str
    about: str
    functions: tuple[str, ...]
    examples: tuple[str, ...]


SUBJECTS: tuple[Subject, ...] = (
    Subject(
        "zeros on the critical line",
        "zero(k) is the height of the k-th zero: zeta(1/2 + i*zero(k)) = 0; N(T) counts the zeros up to height T; "
        "Z(t) is Hardy's real function on the critical line",
        ("zero", "N", "Z"),
        ("zero(2) ~ 21.0220", "N(50) = 10", "abs(Z(25.0109)) < 0.0001"),
    ),
    Subject(
        "zeta values and the functional equation",
        "zeta(s), its derivative zeta'(s), the alternating series eta(s), and xi(s) with xi(s) = xi(1 - s)",
        ("zeta", "zeta'", "eta", "xi"),
        ("zeta(3) ~ 1.20206", "zeta(-3) = 1/120", "xi(1/4 + 3*i) = xi(3/4 - 3*i)"),
    ),
    Subject(
        "Robin's inequality",
        "sigma(n) is the sum of the divisors of n; Robin: sigma(n) < e^gamma n log log n for all n > 5040 exactly if "
        "the hypothesis holds",
        ("sigma",),
        (
            "sigma(10080) < exp(gamma)*10080*log(log(10080))",
            "sigma(n) < exp(gamma)*n*log(log(n)) for all n from 5041 to 5100",
            "sigma(720)/720 > 3.3",
        ),
    ),
    Subject(
        "Lagarias' inequality",
        "H(n) = 1 + 1/2 + ... + 1/n; Lagarias: sigma(n) <= H(n) + exp(H(n)) log(H(n)) for all n exactly if the "
        "hypothesis holds",
        ("sigma", "H"),
        (
            "sigma(n) <= H(n) + exp(H(n))*log(H(n)) for all n from 1 to 60",
            "sigma(60) < H(60) + exp(H(60))*log(H(60))",
        ),
    ),
    Subject(
        "bounds on the Mertens function",
        "mu(n) is the Moebius function and M(x) the sum of mu(n) for n up to x; the hypothesis says that M(x) stays "
        "near sqrt(x)",
        ("M", "mu"),
        ("M(100) = 1", "abs(M(n)) < sqrt(n) for all n from 2 to 200", "M(1000) = 2"),
    ),
    Subject(
        "counting primes",
        "primepi(x) counts the primes up to x, Li(x) is the integral of 1/log from 2; Schoenfeld: under the hypothesis "
        "abs(primepi(x) - li(x)) < sqrt(x)*log(x)/(8*pi) for x >= 2657",
        ("primepi", "li", "Li", "R", "prime"),
        (
            "abs(primepi(10^5) - li(10^5)) < sqrt(10^5)*log(10^5)/(8*pi)",
            "primepi(10000) = 1229",
            "primepi(n) < li(n) for all n from 100 to 300",
        ),
    ),
    Subject(
        "Chebyshev's functions",
        "theta(x) is the sum of log p over the primes up to x, psi(x) the sum over prime powers; Schoenfeld: under the "
        "hypothesis abs(psi(x) - x) < sqrt(x)*log(x)^2/(8*pi) for x >= 73.2",
        ("theta", "psi", "Lambda"),
        (
            "abs(psi(1000) - 1000) < sqrt(1000)*log(1000)^2/(8*pi)",
            "theta(1000) ~ 956.245",
            "psi(n) > theta(n) for all n from 4 to 100",
        ),
    ),
    Subject(
        "spacing of zeros",
        "how near neighbouring zeros come: zero(k+1) - zero(k), on average 2*pi/log(zero(k)/(2*pi))",
        ("zero",),
        (
            "zero(5) - zero(4) ~ 2.51019",
            "zero(k+1) - zero(k) > 0.7 for all k from 1 to 20",
            "zero(35) - zero(34) < 2*pi/log(zero(34)/(2*pi))",
        ),
    ),
    Subject(
        "Li's criterion",
        "the Li coefficients lambda(n), n from 1 to 30 here; all of them are positive exactly if the hypothesis holds",
        ("lambda",),
        ("lambda(1) = 1 + gamma/2 - log(4*pi)/2", "lambda(2) ~ 0.0923457", "lambda(n) > 0 for all n from 1 to 5"),
    ),
)  # fmt: skip

# By the specialities of the example roster: new directions, derivation, connections, doubt, explanation, numbers.
_FIRST_OF = {
    "alpha": "Li's criterion",
    "beta": "zeta values and the functional equation",
    "gamma": "spacing of zeros",
    "delta": "Robin's inequality",
    "epsilon": "counting primes",
    "zeta": "zeros on the critical line",
}
SUBJECT_BY_NAME = {subject.name: subject for subject in SUBJECTS}


def subject_of(student: str, cycle: int) -> Subject:
    """Return what a student works on in a cycle (from 1).

    The six students of the example roster keep their speciality in odd cycles and go through the other
    subjects in even ones; any other name starts where its hash says and moves on with every cycle.
    """
    first = _FIRST_OF.get(student.removeprefix("rh-").partition(":")[0])
    if first is None:
        start = int.from_bytes(hashlib.sha256(student.encode()).digest()[:4], "big")
        return SUBJECTS[(start + cycle - 1) % len(SUBJECTS)]
    start = SUBJECTS.index(SUBJECT_BY_NAME[first])
    return SUBJECTS[start if cycle % 2 else (start + cycle // 2) % len(SUBJECTS)]
