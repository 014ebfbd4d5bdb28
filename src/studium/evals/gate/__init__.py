"""Whether a challenger may take a champion's place, from graded replies alone: pure functions.

Knows neither engines nor the registry. Evidence is anytime-valid (Ville 1939): one may look after every pair and stop
when one likes, and still promotes no more than a share `alpha` of challengers that are not better.
"""
