"""The Riemann hypothesis as a topic: students propose numerical claims, and mpmath tests them.

From the text inwards: `reading` finds claims, `syntax` is the language they are written in, `normal` their
canonical form, `check` tests one, `functions` computes within bounds, `primes`, `zeros` and `coefficients`
hold the mathematics. `subjects` says what there is to work on; `claims` makes true claims for training.
"""

from studium.domains.riemann.topic import Riemann

__all__ = ["Riemann"]
