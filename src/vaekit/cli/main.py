"""`vaekit`: finds the command, runs it, and turns every mistake into one line and an exit code."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import Any, NoReturn

from vaekit._version import __version__
from vaekit.errors import CheckpointError, ConfigError, RunError, TrainingError, closest

COMMANDS = {
    "train": "train a model, measure it and draw its pictures",
    "resume": "go on with a training exactly where it stopped",
    "sweep": "train many settings: resumable, on one machine or many",
    "evaluate": "measure a trained model: numbers with standard errors",
    "gradients": "measure signal and noise of the gradients of a trained model",
    "doctor": "say what is wrong with a run, why, and which command mends it",
    "prior": "fit a prior to the latents of a trained model",
    "sample": "draw new examples from a trained model",
    "reconstruct": "pass data through a trained model and back",
    "encode": "write the latent codes of data",
    "traverse": "vary one latent dimension at a time and decode",
    "interpolate": "go from one example to another through the latent space",
    "compare": "put finished runs side by side: one table and pictures",
    "report": "write one HTML file about a run",
    "reproduce": "carry out a published protocol and compare",
    "list": "show the parts that can be chosen",
    "data": "show the data sets, or fetch one",
}

OK, FAILED, WRONG_USE, NOT_FINITE = 0, 1, 2, 3


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line that says what to write instead."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise ConfigError(f"{message}. See: {self.prog} --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    0 for success, 2 for a mistake in what was asked, 3 for a loss that is no longer finite, 128 + n for a run that was stopped by
    signal n after a checkpoint, 1 for everything else.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [argument for argument in arguments if argument != "--debug"]
    try:
        with warnings.catch_warnings(), _terminable():
            warnings.showwarning = _warn
            return _dispatch(arguments)
    except KeyboardInterrupt as stop:
        number = next((argument for argument in stop.args if isinstance(argument, int)), int(signal.SIGINT))
        return _say(f"stopped by signal {number}", 128 + number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the interpreter complains while it ends
        return OK
    except Exception as error:
        if debug:
            raise
        return _say(*_told(error))


@contextmanager
def _terminable() -> Iterator[None]:
    """Within this context SIGTERM ends the command as Ctrl-C does: with one line, and with what it held given back."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    print(f"vaekit: warning: {message}", file=sys.stderr)


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_help())
        return OK
    if arguments[0] in ("-V", "--version"):
        print(f"vaekit {__version__}")
        return OK
    name = arguments[0]
    if name not in COMMANDS:
        raise ConfigError(f"there is no command {name!r}{closest(name, COMMANDS)}")
    module = import_module(f"vaekit.cli.{name}")
    parser = Parser(
        prog=f"vaekit {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    code: int = module.run(parser, arguments[1:])
    return code


def _help() -> str:
    lines = [
        f"vaekit {__version__}: variational autoencoders, every number in nats",
        "",
        "usage: vaekit COMMAND [ARGUMENTS]",
        "",
        *(f"  {name:<12}{text}" for name, text in COMMANDS.items()),
        "",
        "  --debug     show the traceback of an error",
        "  --version   show the version",
        "",
        "Start with `vaekit train`: it trains the default model on built-in data. `vaekit COMMAND --help` says more.",
    ]
    return "\n".join(lines)


def _told(error: Exception) -> tuple[str, int]:
    """What to say of an error, and the exit code."""
    if isinstance(error, TrainingError):
        return str(error), NOT_FINITE
    if isinstance(error, (CheckpointError, RunError)):
        return str(error), FAILED
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}", WRONG_USE if isinstance(error, FileNotFoundError) else FAILED
    if type(error).__module__.startswith("vaekit."):  # in full: it may list files, and say where to put them
        return str(error), WRONG_USE
    if isinstance(error, (ValueError, FileNotFoundError)):
        return _one_line(error), WRONG_USE
    return f"{type(error).__name__}: {_one_line(error)} (--debug shows where)", FAILED


def _one_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")


def _say(message: str, code: int) -> int:
    print(f"vaekit: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
