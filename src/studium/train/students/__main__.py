"""`python -m studium.train.students`: see `command`."""

import sys

from studium.train.students.command import main

if __name__ == "__main__":
    sys.exit(main())
