"""The one exception whose text is meant for a person."""


class Problem(Exception):
    """A problem with the data, the settings or the machine: its text is one clear sentence.

    The sentence names the file, row or setting and the way out. Programs print it without a
    traceback and exit with status 1.
    """
