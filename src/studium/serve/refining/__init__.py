"""A draft made better by an oracle and an arbiter, with who said what."""
