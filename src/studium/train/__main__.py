"""The process a stage runs in: `python -m studium.train STAGE FOLDER`, begun by `studium train` under a lease."""

import sys

from studium.train.command import main

sys.exit(main(sys.argv[1], sys.argv[2]))
