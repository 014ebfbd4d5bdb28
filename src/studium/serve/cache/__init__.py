"""Answers given again: to the same words, and to words that mean the same."""
