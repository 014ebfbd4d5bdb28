"""Answers questions. `ensemble.Ensemble` is the one door; strategies decide, the driver does the asking."""
