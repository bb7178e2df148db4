"""Texts and chats to what comes next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.kv_cache import BATCH_TOKENS
from stoker.models.manifest import Manifest
from stoker.models.oip.tensor import Tensor, TensorSpec, texts_tensor
from stoker.models.tasks.adapters import Adapters
from stoker.models.tasks.generating import Writer
from stoker.models.tasks.generation_parameters import GenerationParameters
from stoker.models.tasks.reading import Reading
from stoker.models.tasks.scoring import score
from stoker.models.tasks.steps import Steps, at_once
from stoker.models.tasks.task import TaskBase
from stoker.models.tasks.texts import Texts
from stoker.models.tasks.writing import Piece, Writing
from stoker.nouns.errors import BadRequest
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

DEFAULT_NEW_TOKENS = 128


class TextGeneration(TaskBase[Writing, GenerationParameters]):
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

    def read(self, value: Any, options: GenerationParameters) -> Writing:
        """See `TaskModel`."""
        if isinstance(value, str):
            ids = list(self._texts.tokenizer(value, verbose=False)["input_ids"])
            reading = Reading(self._writer.decoded, ids)
        else:
            ids = self._chat(value.get("messages") if isinstance(value, dict) else value)
            reading = Reading(self._writer.decoded)
        if not ids:
            raise BadRequest("the input is an empty text, which has no tokens")
        whole = options.return_full_text and isinstance(value, str)
        return Writing(
            ids,
            self._room(len(ids), 1 if options.score else options.max_new_tokens),
            reading,
            stop=options.stop,
            before=value if whole else "",
        )

    def cost(self, item: Writing) -> int:
        """Tokens of its key-value cache at the end."""
        return len(item.ids) + item.room

    def forward(self, items: Sequence[Writing], options: GenerationParameters) -> list[Any]:
        """See `TaskBase`."""
        return at_once(self.forward_in_steps(items, options))

    def forward_in_steps(
        self, items: Sequence[Writing], options: GenerationParameters
    ) -> Steps[list[Any]]:
        """See `TaskBase`: a token a step."""
        if options.score:
            return [score(self._module, item.ids) for item in items]
        if options.seed is not None and options.temperature > 0:
            # Together, one's numbers would depend on its neighbours.
            for item in items:
                item.dice = item.dice or self._writer.dice(options.seed)
                yield from self._writer.write([item], options, item.dice)
        else:
            yield from self._writer.write(items, options, self._writer.dice(None))
        return [_result(item) for item in items]

    def result_of(self, item: Writing) -> dict[str, Any] | None:
        """See `TaskModel`: a short text does not wait for the long ones beside it."""
        return _result(item) if item.reason else None

    def piece(self, item: Writing) -> Piece | None:
        """What of a text can be told by now and was not yet, while a run of it goes on."""
        return item.piece()

    def leave(self, item: Writing) -> None:
        """See `TaskModel`."""
        item.left = True

    def tensors_from(self, results: Sequence[Any]) -> list[Tensor]:
        """See `TaskModel`."""
        if any("log_probability" in one for one in results):
            raise BadRequest("score is answered as plain JSON, not by tensors")
        texts = [one["generated_text"] for one in results]
        reasons = [one["finish_reason"] for one in results]
        return [texts_tensor("text", texts), texts_tensor("finish_reason", reasons)]

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


def _result(item: Writing) -> dict[str, Any]:
    return {
        "generated_text": item.before + item.text,
        "finish_reason": item.reason,
        "prompt_tokens": len(item.ids),
        "generated_tokens": len(item.tokens),
    }


def _is_message(one: Any) -> bool:
    return (
        isinstance(one, dict)
        and isinstance(one.get("role"), str)
        and isinstance(one.get("content"), str)
    )
