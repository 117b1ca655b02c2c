"""Short command-line tools, run as `python -m scripts.<name>` from the root of the repository.

`make help` lists the commands.
"""

import sys

if sys.argv[0] == "-m":  # one of them is being started; its own imports, which take seconds, come after this
    from scripts.supervise import supervise

    supervise()
