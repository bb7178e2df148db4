"""LoRA adapters of peft: several over one base model, each request chooses one."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.nouns.errors import BadRequest, UnusableModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_CONFIG, _WEIGHTS = "adapter_config.json", "adapter_model.safetensors"


class Adapters:
    """The adapters of one model, none by default.

    Attributes:
        names: in the order of ``STOKER_ADAPTER``.
    """

    def __init__(self, wrapped: Any = None, names: tuple[str, ...] = ()) -> None:
        self._wrapped = wrapped
        self.names = names

    @classmethod
    def load(cls, module: PreTrainedModel, folders: Mapping[str, str]) -> Adapters:
        """Adds adapters to a module, in place.

        Raises:
            UnusableModel: one is not there, or does not fit the model.
        """
        if not folders:
            return cls()
        from peft import PeftModel

        wrapped: Any = None
        for name, text in folders.items():
            folder = str(_folder(name, text))
            try:
                with warnings.catch_warnings():
                    # peft asks transformers by a name that is going away.
                    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")
                    if wrapped is None:
                        wrapped = PeftModel.from_pretrained(module, folder, adapter_name=name)
                    else:
                        wrapped.load_adapter(folder, adapter_name=name)
            except Exception as exc:  # peft raises anything here
                raise UnusableModel(
                    f"STOKER_ADAPTER {name!r}: {folder} does not fit the model: "
                    f"{type(exc).__name__}: {exc}"
                ) from exc
        wrapped.eval()
        return cls(wrapped, tuple(folders))

    def check(self, name: str) -> None:
        """Whether there is such an adapter; no name is always one.

        Raises:
            BadRequest: no, with the names there are.
        """
        if name and name not in self.names:
            there = f"there are {', '.join(self.names)}" if self.names else "it has none"
            raise BadRequest(
                f"parameters.adapter: this model has no adapter {name!r}; {there}",
                adapters=list(self.names),
            )

    @contextmanager
    def using(self, name: str) -> Iterator[None]:
        """Within it the model runs with this adapter, or without any."""
        if self._wrapped is None:
            yield
        elif name:
            self._wrapped.set_adapter(name)
            yield
        else:
            with self._wrapped.disable_adapter():
                yield


def _folder(name: str, text: str) -> Path:
    folder = Path(text).expanduser()
    for file in (_CONFIG, _WEIGHTS):
        if not (folder / file).is_file():
            raise UnusableModel(f"STOKER_ADAPTER {name!r}: {folder} has no {file}")
    return folder
