"""Learning made to serve: training that survives, what is promoted and why. Never on the path of a question."""
