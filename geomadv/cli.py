"""The `geomadv` command; what a command needs is imported when it runs."""

import contextlib
import signal
import sys
from collections.abc import Iterator, Sequence
from typing import Any

# Command -> function of geomadv.pipeline.commands, and what it does.
COMMANDS = {
    "demo": ("demo", "all of it on a digit classifier that comes along, to a report; no data"),
    "check": ("check", "what a run would work on: network, images, accuracy, effort; nothing runs"),
    "plan": ("plan", "what experiments would cost: passes, time, memory, disk; nothing runs"),
    "run": ("run", "run experiments of a network; what they start from runs first"),
    "paper": ("paper", "run all experiments in order, draw their figures, answer the claims"),
    "figures": ("figures", "draw the figures of a network's results"),
    "claims": ("claims_", "answer the papers' claims from a network's results"),
    "report": ("report_", "write report.html of a network's results; --compare others"),
    "compare": ("compare_", "show several networks' results side by side: tables and figures"),
    "list": ("list_", "experiments: what is done, missing, stale; list networks: the networks"),
    "verify": ("verify", "check that results, unfinished work and cached networks are undamaged"),
    "reproduce": ("reproduce", "run again what a result file says, and compare the numbers"),
    "show": ("show", "where a result file comes from, and what makes it again"),
}

_USAGE = "\n".join(
    [
        "usage: geomadv COMMAND ... (geomadv COMMAND --help explains its flags)",
        "",
        "The geometry of neural networks' decision boundaries.",
        "",
        *(f"  {name:10}{words}" for name, (_, words) in COMMANDS.items()),
        "",
        "For example: geomadv run curvature --network lenet-mnist --curvature.count 400",
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; what the user can mend ends as one paragraph with status 2.

    Ctrl-C, SIGTERM and SIGHUP end it with a line and the status that shells give such ends: 130,
    143, 129.
    """
    asked: list[int] = []
    try:
        with _stoppable(asked):
            return _main(argv, asked)
    except BaseException as error:  # an import that is stopped may fail in ways of its own
        if not asked and not isinstance(error, KeyboardInterrupt):
            raise
    with contextlib.suppress(OSError):  # of a terminal that has gone
        print("stopped; the same command continues where it was", file=sys.stderr, flush=True)
    return 128 + (asked or [signal.SIGINT])[0]


@contextlib.contextmanager
def _stoppable(asked: list[int]) -> Iterator[None]:
    """Inside, the first request to end is noted and raised; a second one ends the process.

    Signals that are ignored already, as under nohup, stay so.
    """

    def stop(number: int, _: Any) -> None:
        signal.signal(number, signal.SIG_DFL)
        asked.append(number)
        raise KeyboardInterrupt

    usual = (signal.SIG_DFL, signal.default_int_handler)
    before = {}
    with contextlib.suppress(ValueError):  # not the main thread, which alone has signals
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) in usual:
                before[number] = signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _main(argv: Sequence[str] | None, asked: Sequence[int]) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"geomadv {version('geomadv')}")
        return 0
    return _command(words[0], words[1:], asked)


def _command(name: str, argv: Sequence[str], asked: Sequence[int]) -> int:
    from geomadv import distributed
    from geomadv.errors import InputError, closest

    if name not in COMMANDS:
        print(
            f"error: {name!r} is no command.{closest(name, [*COMMANDS])}\n\n{_USAGE}",
            file=sys.stderr,
        )
        return 2
    from geomadv.pipeline import commands

    if asked:  # an import that is stopped may go on without what it was importing
        raise KeyboardInterrupt
    distributed.start()
    try:
        return getattr(commands, COMMANDS[name][0])(argv) or 0
    except (InputError, OSError) as error:
        if distributed.is_main():
            print(f"error: {error}", file=sys.stderr, flush=True)
        distributed.stop_together()
        return 2
    except distributed.LostProcessError as error:
        print(
            f"error: another process died ({error}), and so this one stops. Finished parts are "
            "kept: the same command goes on, with any number of processes.",
            file=sys.stderr,
            flush=True,
        )
        return 1
    finally:
        distributed.stop()


if __name__ == "__main__":
    sys.exit(main())
