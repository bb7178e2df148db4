"""What every task is: inputs in, one result each out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from stoker.models.manifest import Manifest
from stoker.models.oip.tensor import Tensor, TensorSpec
from stoker.models.tasks.adapters import Adapters
from stoker.models.tasks.memory import attempt_in_steps
from stoker.models.tasks.parameters import Parameters, read_parameters
from stoker.models.tasks.steps import Steps, at_once
from stoker.models.tokens import blocks
from stoker.nouns.errors import BadRequest, StokerError
from stoker.nouns.settings import Task

Item = TypeVar("Item")
Options = TypeVar("Options", bound=Parameters)


class TaskModel(Protocol):
    """A loaded model that does its task. Call it from one thread at a time.

    Attributes:
        task: which.
        manifest: how the checkpoint was made.
        folder: where the checkpoint lies.
        load_seconds: what loading took.
    """

    task: ClassVar[Task]
    manifest: Manifest
    folder: Path
    load_seconds: float

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """The tensors it takes."""
        ...

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """The tensors it gives."""
        ...

    def __call__(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """One JSON-able result for each input.

        Raises:
            BadRequest: a parameter or an input is wrong, with its index.
            InsufficientStorage: it does not fit into memory.
        """
        ...

    def options(self, parameters: Mapping[str, Any], *, tensors: bool = False) -> Any:
        """The parameters of a request, checked: equal ones are equal, and hash alike.

        Args:
            parameters: by name.
            tensors: the results shall be made tensors of.

        Raises:
            BadRequest: naming each that is wrong.
        """
        ...

    def read(self, value: Any, options: Any) -> Any:
        """One input, checked and made ready to run.

        Raises:
            BadRequest: it is none.
        """
        ...

    def run(self, items: Sequence[Any], options: Any) -> list[Any]:
        """The result of each item that `read` made, or the exception that it met instead."""
        ...

    def run_in_steps(self, items: Sequence[Any], options: Any) -> Steps[list[Any]]:
        """`run`, which may be left between two steps; until then no other call may be made."""
        ...

    def result_of(self, item: Any) -> Any:
        """The result of an item that is ready before its neighbours of a run; None: not yet."""
        ...

    def leave(self, item: Any) -> None:
        """Nobody waits for an item any more: of what takes long, the run leaves it out."""
        ...

    def inputs_of(self, document: Any) -> list[Any] | None:
        """The inputs in what JSON has as ``inputs``; None when it is one input by itself."""
        ...

    def inputs_from(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        """The inputs in tensors, one for each of the first axis.

        Raises:
            BadRequest: they are not those of `input_specs`.
        """
        ...

    def tensors_from(self, results: Sequence[Any]) -> list[Tensor]:
        """Results of `run`, as the tensors of `output_specs`."""
        ...


class TaskBase(ABC, Generic[Item, Options]):
    """The common part of all tasks: what fits together runs together, within memory.

    Attributes:
        parameters_type: what a request may say.
        block_cost: the sum of `cost` that should run at once, an item's own padded to the longest.
        card_block_cost: the same on a card, where a call costs as much for few as for many; 0: the
            same.
    """

    task: ClassVar[Task]
    parameters_type: type[Options]
    block_cost: int
    card_block_cost: ClassVar[int] = 0

    def __init__(self, manifest: Manifest, folder: Path, adapters: Adapters | None = None) -> None:
        self.manifest = manifest
        self.folder = folder
        self.load_seconds = 0.0
        self.adapters = adapters or Adapters()

    @property
    @abstractmethod
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""

    @property
    @abstractmethod
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""

    @abstractmethod
    def read(self, value: Any, options: Options) -> Item:
        """See `TaskModel`."""

    @abstractmethod
    def forward(self, items: Sequence[Item], options: Options) -> list[Any]:
        """The results of items that run together."""

    @abstractmethod
    def tensors_from(self, results: Sequence[Any]) -> list[Tensor]:
        """See `TaskModel`."""

    def cost(self, _item: Item) -> int:
        """How much of a block an item takes: its tokens, for texts."""
        return 1

    def kind(self, _item: Item, _options: Options) -> Hashable:
        """Items of different kinds never run together."""
        return None

    def options(self, parameters: Mapping[str, Any], *, tensors: bool = False) -> Options:
        """See `TaskModel`."""
        options = read_parameters(self.parameters_type, parameters)
        self.adapters.check(options.adapter)
        return options.for_tensors() if tensors else options

    def forward_in_steps(self, items: Sequence[Item], options: Options) -> Steps[list[Any]]:
        """`forward`, for tasks that take long; those that do not are one step."""
        yield from ()
        return self.forward(items, options)

    def run(self, items: Sequence[Item], options: Options) -> list[Any]:
        """See `TaskModel`."""
        return at_once(self.run_in_steps(items, options))

    def run_in_steps(self, items: Sequence[Item], options: Options) -> Steps[list[Any]]:
        """See `TaskModel`."""
        results: list[Any] = [None] * len(items)
        with self.adapters.using(options.adapter):
            for group in self._groups(items, options):
                outcomes = yield from attempt_in_steps(
                    lambda part: self.forward_in_steps(part, options),
                    [items[index] for index in group],
                )
                for index, outcome in zip(group, outcomes, strict=True):
                    results[index] = outcome
        return results

    def result_of(self, _item: Item) -> Any:
        """See `TaskModel`: together, for all that is done in one step."""
        return None

    def leave(self, item: Item) -> None:  # most tasks have nothing to leave out
        """See `TaskModel`."""

    def __call__(
        self, inputs: Sequence[Any], parameters: Mapping[str, Any] | None = None
    ) -> list[Any]:
        """See `TaskModel`."""
        if isinstance(inputs, (str, bytes)):
            raise TypeError(f"a model takes a list of inputs, was one {type(inputs).__name__}")
        options = self.options(parameters or {})
        results = self.run(read_all(self, inputs, options), options)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def inputs_of(self, document: Any) -> list[Any] | None:
        """See `TaskModel`."""
        return document if isinstance(document, list) else None

    def inputs_from(self, tensors: Mapping[str, Tensor]) -> list[Any]:
        """See `TaskModel`: the elements of the one input tensor."""
        return texts_in(self._only(tensors))

    def _only(self, tensors: Mapping[str, Tensor]) -> Tensor:
        spec = self.input_specs[0]
        if list(tensors) != [spec.name]:
            raise BadRequest(
                f"the model takes one input, {spec.name!r} ({spec.datatype}); were "
                f"{', '.join(map(repr, tensors))}"
            )
        return tensors[spec.name]

    def _groups(self, items: Sequence[Item], options: Options) -> Iterator[list[int]]:
        kinds: dict[Hashable, list[int]] = {}
        for index, item in enumerate(items):
            kinds.setdefault(self.kind(item, options), []).append(index)
        for alike in kinds.values():
            for block in blocks([self.cost(items[index]) for index in alike], self.block_cost):
                yield [alike[index] for index in block]


def read_all(model: Any, inputs: Sequence[Any], options: Any) -> list[Any]:
    """Every input of one request, read.

    Raises:
        BadRequest: one is wrong; of several the message says which.
    """
    items = []
    for index, value in enumerate(inputs):
        try:
            items.append(model.read(value, options))
        except StokerError as exc:
            if len(inputs) == 1:
                raise
            raise type(exc)(f"inputs[{index}]: {exc.message}", **exc.detail) from exc
    return items


def texts_in(tensor: Tensor) -> list[str]:
    """The texts of a BYTES tensor [n] or [n, 1].

    Raises:
        BadRequest: it is no such tensor, or no UTF-8.
    """
    try:
        return [one.decode() for one in bytes_in(tensor)]
    except UnicodeDecodeError as exc:
        raise BadRequest(f"input {tensor.name!r} must be UTF-8: {exc}") from exc


def bytes_in(tensor: Tensor) -> list[bytes]:
    """The elements of a BYTES tensor [n] or [n, 1].

    Raises:
        BadRequest: it is no such tensor.
    """
    shape = tensor.shape
    if tensor.datatype != "BYTES" or not (len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)):
        raise BadRequest(
            f"input {tensor.name!r} must be BYTES of shape [n] or [n, 1], was {tensor.datatype} of "
            f"shape {shape}"
        )
    return list(tensor.values.ravel())
