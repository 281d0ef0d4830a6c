"""Leaving the name of a user's home folder out of a page that will be passed on."""

import re

_NAME = r"""[^/\\\s"':;,]+"""
_HOME_PATH = re.compile(
    rf"""(?<![\w.~-])(?:/home/{_NAME}|/Users/{_NAME}|/root(?![\w.-])|[A-Za-z]:\\Users\\{_NAME})(?P<rest>[^\s"':;,]*)"""
)


def without_home(text: str, allowed: str = "") -> str:
    """Write `~` for the home folder in every path, except for paths that occur in `allowed`.

    Arguments:
        text: Text from the environment of a run, for instance its command line.
        allowed: The configuration, which is shown as it is: hiding there what a command needs would help nobody.
    """
    return _HOME_PATH.sub(lambda path: path[0] if path["rest"] and path[0] in allowed else "~" + path["rest"], text)
