"""Short command-line tools, run as `python -m scripts.<name>` from the root of the repository.

`make help` lists the commands.
"""
