"""The reinforcement-learning engine: rollouts, weights and advantages per token, one loss."""
