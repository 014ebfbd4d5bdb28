"""`python -m studium`: the command line, where its script is not on the path."""

from studium.cli.main import main

main()
