"""The one error that geomadv raises for what the caller can mend, and the classes of warnings."""

import contextlib
import difflib
from collections.abc import Callable, Iterator, Sequence


class InputError(ValueError):
    """An argument, a file or a network cannot be used as given.

    The message names the argument, says what was expected and what was found, and gives the
    remedy. The command line prints it as one paragraph and exits with status 2.
    """


class LackingError(InputError):
    """A study does not have what an experiment needs, and nothing that was given is wrong."""


class ShapeError(InputError):
    """A network does not take images of the shape it is said to take."""


@contextlib.contextmanager
def refusing(refusal: Callable[[str], InputError]) -> Iterator[None]:
    """Turns whatever reading damaged bytes raises inside the block into one `InputError`.

    refusal: the error for a reason, the first line of what was raised.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # damaged bytes may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise refusal(reason) from error


def decoding(what: str, remedy: str) -> contextlib.AbstractContextManager[None]:
    """`refusing` with the message "what is damaged (reason): remedy"; what: the file."""
    return refusing(lambda reason: InputError(f"{what} is damaged ({reason}): {remedy}."))


def check_counts(**counts: int) -> None:
    """Raises an `InputError` for the first number, by the name of its argument, that is below 1."""
    for name, value in counts.items():
        if value < 1:
            raise InputError(f"{name}={value} must be at least 1.")


# The remedy where boundary points are wanted and there are none, whatever they are wanted for.
NO_BOUNDARY = (
    "Too few images reached a boundary: a network that predicts one label everywhere has none; of "
    "another, give more images, or the search more steps (max_iter)."
)


class UnconvergedWarning(UserWarning):
    """Eigenpairs have residuals above the tolerance; the message says why."""


class SmallerBatchWarning(UserWarning):
    """Memory ran out, and batches are half as large from here on."""


def closest(word: str, known: Sequence[str]) -> str:
    """A sentence that suggests the most similar known word; empty where none is similar."""
    matches = difflib.get_close_matches(word, known, n=1)
    return f" Did you mean {matches[0]!r}?" if matches else ""
