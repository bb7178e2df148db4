"""An encoder to an int8 ONNX graph that every worker maps: export, quantize, optimise, pack.

The graph on disk is the one that runs: optimised for this CPU, with its weights already packed in
the order the kernels read, in a data file of their own. So loading neither optimises nor copies,
and all workers share the file's pages (docs/decisions/0003-int8-on-cpu.md).
"""

from __future__ import annotations

import ast
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stoker.models.onnx_session import GRAPH, INPUTS, OUTPUT, WEIGHTS, options
from stoker.models.original import load_original
from stoker.models.quantize.plan import check_patterns, matches
from stoker.models.source import Source
from stoker.models.torch_session import pooled
from stoker.nouns.errors import UnusableModel
from stoker.nouns.settings import Task

if TYPE_CHECKING:
    import torch
    from onnx import GraphProto

_FLOAT = 1
_SCOPES = "pkg.torch.onnx.name_scopes"
_INLINE_BYTES = 1024
"""Smaller tensors stay in the graph file: a mapping of their own would cost more than they hold."""


def export(source: Source, pooling: str, target: Path, *, trust: bool = False) -> None:
    """Writes the encoder with its pooling as an fp32 graph.

    Raises:
        UnusableModel: the architecture cannot be exported.
    """
    import torch

    class Encoder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            # The eager attention exports to plain matrix products, which fuse and quantize best.
            self.encoder = load_original(
                source,
                Task.FEATURE_EXTRACTION,
                torch.float32,
                attention="eager",
                trust_remote_code=trust,
            )

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            output = self.encoder(input_ids=input_ids, attention_mask=attention_mask)
            return pooled(output.last_hidden_state, attention_mask, pooling)

    with _quiet():
        _export(Encoder().eval(), target)


def _export(module: torch.nn.Module, target: Path) -> None:
    import torch

    ids = torch.ones(2, 16, dtype=torch.long)
    mask = torch.ones(2, 16, dtype=torch.long)
    mask[1, 8:] = 0
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    try:
        program = torch.onnx.export(
            module,
            (ids, mask),
            dynamo=True,
            verbose=False,
            input_names=list(INPUTS),
            output_names=[OUTPUT],
            dynamic_shapes=dict.fromkeys(INPUTS, axes),
        )
    except Exception as exc:  # the exporter raises its own and torch's, with no common base
        raise UnusableModel(f"this architecture cannot be exported for int8: {exc}") from exc
    if program is None:
        raise UnusableModel("this architecture cannot be exported for int8")
    program.save(str(target), external_data=True)


def quantize(fp32: Path, target: Path, skip: Sequence[str] = ()) -> tuple[list[str], list[str]]:
    """Writes the graph with int8 weights, one scale an output channel.

    Args:
        fp32: the exported graph.
        target: where to.
        skip: patterns of modules that stay as they are.

    Returns:
        The modules whose weights were replaced, and those with a weight matrix that was not.

    Raises:
        UnusableModel: a pattern matches no module.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    before = onnx.load(str(fp32), load_external_data=False).graph
    matrices = _matrices(before)
    check_patterns(skip, sorted(set(matrices.values())))
    with _quiet():
        quantize_dynamic(
            str(fp32), str(target), per_channel=True, weight_type=QuantType.QInt8,
            nodes_to_exclude=_nodes_of(before, skip),
        )  # fmt: skip
    after = onnx.load(str(target), load_external_data=False).graph
    left = set(_matrices(after))
    replaced = [module for name, module in matrices.items() if name not in left]
    skipped = [module for name, module in matrices.items() if name in left]
    return sorted(replaced), sorted(skipped)


def _nodes_of(graph: GraphProto, patterns: Sequence[str]) -> list[str]:
    return [
        node.name
        for node in graph.node
        if any(matches(_module(node), pattern) for pattern in patterns)
    ]


def pack(graph: Path, folder: Path) -> None:
    """Writes ``graph`` into ``folder`` as it will run: optimised, its weights packed and apart.

    Raises:
        UnusableModel: ONNX Runtime cannot run the graph.
    """
    import onnxruntime

    chosen = options(threads=1)
    chosen.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    chosen.optimized_model_filepath = str(folder / GRAPH)
    for name, value in (
        ("optimized_model_external_initializers_file_name", WEIGHTS),
        ("optimized_model_external_initializers_min_size_in_bytes", str(_INLINE_BYTES)),
        ("save_external_prepacked_constant_initializers", "1"),
    ):
        chosen.add_session_config_entry(f"session.{name}", value)
    try:
        onnxruntime.InferenceSession(str(graph), chosen, providers=["CPUExecutionProvider"])
    except Exception as exc:  # the library's errors share no other base
        raise UnusableModel(f"the int8 graph of this model cannot run: {exc}") from exc


def _matrices(graph: GraphProto) -> dict[str, str]:
    """Float weights of two or more dimensions: tensor name to the module that owns it."""
    tensors = {
        tensor.name
        for tensor in graph.initializer
        if tensor.data_type == _FLOAT and len(tensor.dims) > 1
    }
    owners: dict[str, str] = {}
    for node in graph.node:
        for name in tensors.intersection(node.input):
            owners.setdefault(name, _module(node) or name)
    return owners


def _module(node: Any) -> str:
    """The module path that the exporter noted on a node, less our wrapper's own name."""
    for fact in node.metadata_props:
        if fact.key == _SCOPES:
            scopes = [str(scope) for scope in ast.literal_eval(fact.value)]
            return scopes[-2].removeprefix("encoder.") if len(scopes) > 1 else ""
    return ""


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters' chatter about their own insides says nothing to a user."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
