"""Texts and chats to what comes next."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from stoker.models.kv_cache import BATCH_TOKENS
from stoker.models.manifest import Manifest
from stoker.models.oip.tensor import Tensor, TensorSpec, texts_tensor
from stoker.models.tasks.adapters import Adapters
from stoker.models.tasks.generating import Piece, Writer, Written
from stoker.models.tasks.generation_parameters import GenerationParameters
from stoker.models.tasks.scoring import score
from stoker.models.tasks.steps import Steps, at_once
from stoker.models.tasks.task import TaskBase
from stoker.models.tasks.texts import Texts
from stoker.nouns.errors import BadRequest
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_NEW_TOKENS = 128


class Prompt(NamedTuple):
    """What to continue.

    Attributes:
        text: as it was asked; empty for a chat.
        ids: its tokens.
        room: the most tokens to write.
    """

    text: str
    ids: list[int]
    room: int


class TextGeneration(TaskBase[Prompt, GenerationParameters]):
    """``{"generated_text", "finish_reason", "prompt_tokens", "generated_tokens"}`` each.

    With ``score``, ``{"log_probability", "tokens"}`` each, and nothing is written.
    An input is a text, or a chat: ``[{"role", "content"}, …]`` or ``{"messages": […]}``.
    """

    task = Task.TEXT_GENERATION
    parameters_type = GenerationParameters
    block_cost = BATCH_TOKENS

    def __init__(
        self, module: PreTrainedModel, manifest: Manifest, folder: Path, adapters: Adapters
    ) -> None:
        super().__init__(manifest, folder, adapters)
        self._texts = Texts(folder, module, side="left", trust=manifest.trust_remote_code)
        self._writer = Writer(module, self._texts.tokenizer)
        self._module = module

    @property
    def input_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""
        return (TensorSpec("text", "BYTES", (-1,)),)

    @property
    def output_specs(self) -> tuple[TensorSpec, ...]:
        """See `TaskModel`."""
        return TensorSpec("text", "BYTES", (-1,)), TensorSpec("finish_reason", "BYTES", (-1,))

    def inputs_of(self, document: Any) -> list[Any] | None:
        """See `TaskModel`: a list of messages is one chat."""
        if isinstance(document, list) and not any(isinstance(one, dict) for one in document):
            return document
        if isinstance(document, list) and all(
            isinstance(one, dict) and "messages" in one for one in document
        ):
            return document
        return None

    def read(self, value: Any, options: GenerationParameters) -> Prompt:
        """See `TaskModel`."""
        if isinstance(value, str):
            ids = list(self._texts.tokenizer(value, verbose=False)["input_ids"])
        else:
            ids = self._chat(value.get("messages") if isinstance(value, dict) else value)
        if not ids:
            raise BadRequest("the input is an empty text, which has no tokens")
        text = value if isinstance(value, str) else ""
        wanted = 1 if options.score else options.max_new_tokens
        return Prompt(text, ids, self._room(len(ids), wanted))

    def cost(self, item: Prompt) -> int:
        """Tokens of its key-value cache at the end."""
        return len(item.ids) + item.room

    def kind(self, item: Prompt, _options: GenerationParameters) -> Hashable:
        """One batch writes up to one number of tokens."""
        return item.room

    def forward(self, items: Sequence[Prompt], options: GenerationParameters) -> list[Any]:
        """See `TaskBase`."""
        return at_once(self.forward_in_steps(items, options))

    def forward_in_steps(
        self, items: Sequence[Prompt], options: GenerationParameters
    ) -> Steps[list[Any]]:
        """See `TaskBase`."""
        if options.score:
            return [score(self._module, item.ids) for item in items]
        write, written = self._writer.write, list[Written]()
        if options.seed is not None and options.temperature > 0:
            # Together, one's numbers would depend on its neighbours.
            for item in items:
                written += yield from write([item.ids], item.room, options)
        else:
            written = yield from write([item.ids for item in items], items[0].room, options)
        return [self._result(item, one, options) for item, one in zip(items, written, strict=True)]

    def stream(self, item: Prompt, options: GenerationParameters) -> Iterator[Piece]:
        """The text in pieces, as it is written; the last has the reason why it ends.

        One at a time: until it is closed no other call of this model may be made.
        """
        if options.score:
            raise BadRequest("score is answered whole: leave stream out")
        with self.adapters.using(options.adapter):
            yield from self._writer.stream(item.ids, item.room, options)

    def tensors_from(self, results: Sequence[Any]) -> list[Tensor]:
        """See `TaskModel`."""
        if any("log_probability" in one for one in results):
            raise BadRequest("score is answered as plain JSON, not by tensors")
        texts = [one["generated_text"] for one in results]
        reasons = [one["finish_reason"] for one in results]
        return [texts_tensor("text", texts), texts_tensor("finish_reason", reasons)]

    def _result(
        self, item: Prompt, written: Written, options: GenerationParameters
    ) -> dict[str, Any]:
        before = item.text if options.return_full_text else ""
        return {
            "generated_text": before + written.text,
            "finish_reason": written.finish_reason,
            "prompt_tokens": len(item.ids),
            "generated_tokens": written.tokens,
        }

    def _chat(self, messages: Any) -> list[int]:
        if (
            not isinstance(messages, list)
            or not messages
            or not all(_is_message(one) for one in messages)
        ):
            raise BadRequest(
                'an input must be a text, or a chat: [{"role": "user", "content": "…"}, …]'
            )
        tokenizer = self._texts.tokenizer
        if not tokenizer.chat_template:
            raise BadRequest("this model has no chat template: send a text instead of messages")
        try:
            found = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, tokenize=True, return_dict=True
            )
        except Exception as exc:  # a template raises what it likes, of jinja's or its own
            raise BadRequest(f"the model's chat template refuses the messages: {exc}") from exc
        return list(found["input_ids"])

    def _room(self, prompt: int, wanted: int | None) -> int:
        context = self._texts.context
        if context is None:
            return wanted or DEFAULT_NEW_TOKENS
        room = wanted or min(DEFAULT_NEW_TOKENS, max(1, context - prompt))
        if prompt + room > context:
            raise BadRequest(
                f"the prompt has {prompt} tokens and {room} may be written: {prompt + room} in "
                f"all, the model's context is {context}",
                prompt_tokens=prompt,
                max_new_tokens=room,
                limit=context,
            )
        return room


def _is_message(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("role"), str)
        and isinstance(one.get("content"), str)
    )
