"""Studium: a team of small language models, asked as few at a time as settle a question."""

__version__ = "0.1.0"
