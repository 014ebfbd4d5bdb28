"""The loop that closes: find what a role is weakest at, train on fresh problems of it, compare, promote or hold."""
