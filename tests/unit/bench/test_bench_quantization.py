"""The table of docs/quantization.md is written by the benchmark, between its markers."""

import pytest
from bench.quantization import BEGIN, END, PAGE, page, with_table
from bench.result import CannotRun

FACTS = {
    "method": "torch bf16", "weight_bytes": 2e6, "memory_bytes": 1e6, "load_s": 0.2, "read_s": 0.1,
    "b1_ms": 1.0, "b16_ms": 2.0, "quality": 0.99,
}  # fmt: skip


def test_a_row_stands_beside_bf16():
    half = FACTS | {"method": "torchao int8", "memory_bytes": 5e5}
    lines = page({"all-MiniLM-L6-v2": {"bf16": FACTS, "int8": half}}).splitlines()
    row = "| `int8` | torchao int8 | 2.0 MB | 0.5 MB | 0.50 | 0.200 s | 2.0 | 1.0 ms | 2.0 ms |"
    assert f"{row} 0.99 |" in lines


def test_only_what_lies_between_the_markers_is_replaced():
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    assert with_table(text, "new") == f"before\n{BEGIN}\nnew\n{END}\nafter\n"


def test_a_page_without_markers_is_refused():
    with pytest.raises(CannotRun, match="no markers"):
        with_table("nothing", "new")


def test_the_page_has_its_markers():
    with_table(PAGE.read_text(), "new")
