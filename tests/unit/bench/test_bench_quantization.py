"""The table of docs/quantization.md is written by the benchmark, between its markers."""

import pytest
from bench.quantization import BEGIN, END, PAGE, made_by, page, with_table
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


def test_only_what_lies_between_its_own_markers_is_replaced():
    ours, other = BEGIN.format("x.py"), BEGIN.format("y.py")
    text = f"before\n{ours}\nold\n{END}\nbetween\n{other}\nkept\n{END}\nafter\n"
    expected = f"before\n{ours}\nnew\n{END}\nbetween\n{other}\nkept\n{END}\nafter\n"
    assert with_table(text, "new", "x.py") == expected


def test_a_page_without_markers_is_refused():
    with pytest.raises(CannotRun, match="no markers"):
        with_table("nothing", "new", "x.py")


@pytest.mark.parametrize("bf16", [True, False])
def test_the_page_has_tables_of_both_kinds_of_cpu(bf16: bool):
    assert "\nnew\n" in with_table(PAGE.read_text(), "new", made_by(bf16))
