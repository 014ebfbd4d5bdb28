"""Answers questions. `Ensemble` is the one door; strategies decide, the driver does the asking."""

from studium.serve.ensemble import Ensemble, EnsembleLimits

__all__ = ["Ensemble", "EnsembleLimits"]
