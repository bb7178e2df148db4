"""Texts to vectors, a batch of requests at a time: the model step."""

from stoker.sdk import load_model


def init_context(context):
    context.user_data.model = load_model(context)


def handler(context, event):
    # With batching the handler gets a list of events and gives a list of answers; a request's own
    # mistake is its own answer and spoils nothing for its neighbours.
    events = event if isinstance(event, list) else [event]
    model = context.user_data.model
    requests = [read_texts(one.body) for one in events]
    vectors = iter(model.encode([text for texts in requests for text in texts or ()]))
    answers = []
    for texts in requests:
        if texts is None:
            answers.append(refusal(context))
        else:
            rows = [next(vectors).round(6).tolist() for _ in texts]
            body = {"texts": texts, "embeddings": rows, "model": model.manifest.key}
            answers.append(context.Response(body=body, content_type="application/json"))
    return answers if isinstance(event, list) else answers[0]


def read_texts(body):
    """The texts of ``{"text": …}`` or ``{"texts": […]}``, None when they are not there."""
    if not isinstance(body, dict):
        return None
    texts = [body["text"]] if "text" in body else body.get("texts")
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        return None
    return texts


def refusal(context):
    error = 'the body must be JSON: {"text": "…"} or {"texts": ["…", …]}'
    return context.Response(body={"error": error}, content_type="application/json", status_code=400)
