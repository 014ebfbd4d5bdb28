"""Tools that students may use; so far the one place where code written by a model runs."""
