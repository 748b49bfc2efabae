"""The `geomadv` command; what a command needs is imported when it runs."""

import sys
from collections.abc import Sequence

# Command -> function of geomadv.pipeline.commands, and what it does.
COMMANDS = {
    "check": ("check", "what a run would work on: network, images, accuracy, effort; nothing runs"),
    "plan": ("plan", "what experiments would cost: passes, time, memory, disk; nothing runs"),
    "run": ("run", "run experiments of a network; what they start from runs first"),
    "paper": ("paper", "run all experiments in order, draw their figures, answer the claims"),
    "figures": ("figures", "draw the figures of a network's results"),
    "claims": ("claims_", "answer the papers' claims from a network's results"),
    "list": ("list_", "experiments: what is done, missing, stale; list networks: the networks"),
    "verify": ("verify", "check that results, unfinished work and cached networks are undamaged"),
    "show": ("show", "where a result file comes from, and what makes it again"),
}

_USAGE = "\n".join(
    [
        "usage: geomadv COMMAND ... (geomadv COMMAND --help explains its flags)",
        "",
        "The geometry of neural networks' decision boundaries.",
        "",
        *(f"  {name:9}{words}" for name, (_, words) in COMMANDS.items()),
        "",
        "For example: geomadv run curvature --network lenet-mnist --curvature.count 400",
    ]
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs a command; what the user can mend ends as one paragraph with status 2."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        return 0
    if words[0] == "--version":
        from importlib.metadata import version

        print(f"geomadv {version('geomadv')}")
        return 0
    return _command(words[0], words[1:])


def _command(name: str, argv: Sequence[str]) -> int:
    from geomadv import distributed
    from geomadv.errors import InputError, closest

    if name not in COMMANDS:
        print(
            f"error: {name!r} is no command.{closest(name, [*COMMANDS])}\n\n{_USAGE}",
            file=sys.stderr,
        )
        return 2
    from geomadv.pipeline import commands

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
    except KeyboardInterrupt:
        print("stopped; the same command continues where it was", file=sys.stderr)
        return 130
    finally:
        distributed.stop()


if __name__ == "__main__":
    sys.exit(main())
