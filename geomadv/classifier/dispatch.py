"""What all modes share that look at arrays below autograd and autocast."""

from torch.utils._python_dispatch import TorchDispatchMode


class Dispatch(TorchDispatchMode):
    """A mode that is entered at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # To skip it, torch would import its compiler, which takes seconds.
        return False
