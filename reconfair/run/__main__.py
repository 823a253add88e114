"""``python -m reconfair.run`` is the command ``reconfair``."""

import sys

from reconfair.run import main

if __name__ == "__main__":
    sys.exit(main())
