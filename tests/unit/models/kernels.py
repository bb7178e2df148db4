"""Which of torch's kernels were called, and with what."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Kernels(TorchDispatchMode):
    """Takes down every call while it is entered.

    Attributes:
        seen: for each kernel the types of its first tensors.
    """

    def __init__(self):
        super().__init__()
        self.seen = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        first = args[0] if args else None
        if isinstance(first, torch.Tensor):
            self.seen.setdefault(func.overloadpacket.__name__, set()).add(first.dtype)
        return func(*args, **(kwargs or {}))
