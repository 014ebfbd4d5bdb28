"""The ensemble against other ways to use the same students, on the same questions (requirement ENS-10)."""
