"""The report of a run of the gate."""

import re
from html.parser import HTMLParser

import pytest
from a_run import a_run, candidate, measured, metric

from stoker.quality.report import number, render, write_report
from stoker.quality.result import CandidateResult, Check, Interval


class Page(HTMLParser):
    """What a browser would load, and what a person would read."""

    VOID = frozenset({"meta", "br", "link", "img", "input", "hr"})

    def __init__(self, html):
        super().__init__()
        self.loads, self.words, self.open, self.badly_closed = [], [], [], []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.loads += [v for k, v in attrs if k in ("src", "href", "xlink:href") and v[:1] != "#"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.badly_closed.append(tag)

    def handle_data(self, data):
        if not {"style", "metadata"} & set(self.open):
            self.words.append(data)


@pytest.fixture(scope="module")
def page():
    return Page(render(a_run()))


def test_it_needs_nothing_beside_it_and_runs_no_script(page):
    assert page.loads == []
    assert "<script" not in render(a_run())


def test_every_element_is_closed(page):
    assert page.badly_closed == []
    assert page.open == []


def test_it_says_the_verdict_first(page):
    assert page.text.index("int8 passed every check") < page.text.index("Recipes")


def test_each_recipe_shows_its_figures_and_what_the_gate_said(page):
    assert "−0.0005 [−0.0011, +0.0001]" in page.text
    assert "cosine 0.9937" in page.text
    assert "cosine to the reference must be at least 0.99, was 0.9071" in page.text
    assert "gptq needs STOKER_CALIBRATION, a file of texts" in page.text


def test_a_refused_recipe_names_the_check_that_refused_it_in_the_table(page):
    table = page.text[page.text.index("Recipes") : page.text.index("What quality costs")]
    assert "refused agreement" in table


def test_texts_of_users_are_shown_and_never_become_markup(page):
    assert "A man is <b>playing</b> a harp." in page.text
    name = "<img src=x onerror=alert(1)>"
    evil = candidate(name, {}, (metric(0.8, -0.02, 0.001),), measured(1, 1, 1), ())
    found = Page(render(a_run(candidates=(evil,), words="<script>alert(1)</script>")))
    assert found.loads == []
    assert name in found.text


def test_the_pictures_take_the_colours_of_the_page(page):
    html = render(a_run())
    assert html.count("<svg") == 2
    svg = html[html.index("<svg") :]
    assert "var(--good)" in svg
    assert not re.findall(r"#0[0-9a-f]0[0-9a-f]0[0-9a-f]|#101112", svg)


def test_what_was_not_measured_leaves_a_dash_and_no_picture():
    broken = CandidateResult(name="int3", error="no such method")
    html = render(a_run(reference=CandidateResult(name="fp32"), candidates=(broken,)))
    assert "<svg" not in html
    assert "no such method" in html


def test_nan_is_shown_as_nan_and_breaks_no_picture():
    nan = float("nan")
    check = Check(code="nan", passed=False, words="3 of 10 answers hold NaN")
    lost = candidate("fp16", {}, (metric(nan, nan, nan, nan),), measured(1, nan, 1), (check,))
    page = Page(render(a_run(candidates=(lost,))))
    assert "NaN" in page.text
    assert "3 of 10 answers hold NaN" in page.text


def test_the_same_run_makes_the_same_page():
    assert render(a_run()) == render(a_run())


def test_a_report_that_cannot_be_made_leaves_the_earlier_one(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "report.html"
    write_report(a_run(), path)
    before = path.read_text()
    monkeypatch.setattr("os.fdopen", _full)
    with pytest.raises(OSError, match="no space"):
        write_report(a_run(words="another"), path)
    assert path.read_text() == before
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def _full(*_args, **_named):
    raise OSError("no space")


@pytest.mark.parametrize(
    ("value", "words"), [(1.6, "1.6"), (123456.0, "123,456"), (0.000123, "0.000123")]
)
def test_numbers_are_short(value, words):
    assert number(value) == words


def test_an_interval_beside_its_value_is_drawn_all_the_same():
    """Of a metric that resampling can only lower, or by a rounding: no picture could be made."""
    beside = metric(0.9).model_copy(
        update={"candidate": Interval(value=0.9, low=0.85, high=0.8999999999999999)}
    )
    one = a_run().candidates[0].model_copy(update={"metrics": (beside,)})
    assert "<svg" in render(a_run(candidates=(one,)))
