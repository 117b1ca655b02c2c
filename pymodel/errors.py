"""The one exception that a user of the project is meant to read."""


class TatamiError(Exception):
    """Bad input, said in one line that names the file or object, the field and the limit.

    Command-line tools print the message and exit with status 2; they never show a traceback for it.
    """
