"""`python -m codec`: the same as the command `coordx`."""

import sys

from codec.cli import main

if __name__ == "__main__":
    sys.exit(main())
