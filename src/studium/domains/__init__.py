"""What a task is: make, ask, extract, verify, score. One file per kind of task."""
