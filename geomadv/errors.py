"""The one error that geomadv raises for what the caller can mend, and the classes of warnings."""


class InputError(ValueError):
    """An argument, a file or a network cannot be used as given.

    The message names the argument, says what was expected and what was found, and gives the
    remedy. The scripts print it as one paragraph and exit with status 2.
    """


class UnconvergedWarning(UserWarning):
    """Eigenpairs have residuals above the tolerance; the message says why."""
