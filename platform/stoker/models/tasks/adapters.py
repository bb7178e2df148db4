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
        from peft import PeftConfig, PeftModel

        wrapped: Any = None
        for name, text in folders.items():
            folder = str(_folder(name, text))
            try:
                with warnings.catch_warnings():
                    # peft asks transformers by a name that is going away.
                    warnings.filterwarnings("ignore", "`is_gradient_checkpointing`")
                    warnings.filterwarnings("ignore", "Unsupported layer type")
                    config = _over_quantized(PeftConfig.from_pretrained(folder))
                    if wrapped is None:
                        wrapped = PeftModel.from_pretrained(
                            module, folder, adapter_name=name, config=config
                        )
                    else:
                        # First by hand: loading would read the configuration anew.
                        config.inference_mode = True
                        wrapped.add_adapter(name, config)
                        wrapped.load_adapter(folder, adapter_name=name)
            except Exception as exc:  # peft raises anything here
                raise UnusableModel(
                    f"STOKER_ADAPTER {name!r}: {folder} does not fit the model: "
                    f"{type(exc).__name__}: {exc}"
                ) from exc
        _to_their_layers(wrapped.eval())
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


def _over_quantized(config: Any) -> Any:
    """The configuration, which now knows our quantized layers: to LoRA they are linear ones.

    What changes the base weight (merging, DoRA) is not for them, and nobody here asks for it.
    """
    from peft.tuners.lora import Linear

    from stoker.models.quantize.linears import QuantizedLinear

    register = getattr(config, "_register_custom_module", None)
    if register is not None:
        register({QuantizedLinear: Linear})
    return config


def _to_their_layers(wrapped: Any) -> None:
    """Moves each adapter to the device of its quantized layer, which peft cannot tell."""
    from stoker.models.quantize.linears import QuantizedLinear

    for layer in wrapped.modules():
        base = getattr(layer, "base_layer", None)
        if not isinstance(base, QuantizedLinear):
            continue
        device = next(base.parameters()).device
        if device.type != "meta":  # offloaded: accelerate brings both
            layer.lora_A.to(device)
            layer.lora_B.to(device)


def _folder(name: str, text: str) -> Path:
    folder = Path(text).expanduser()
    for file in (_CONFIG, _WEIGHTS):
        if not (folder / file).is_file():
            raise UnusableModel(f"STOKER_ADAPTER {name!r}: {folder} has no {file}")
    return folder
