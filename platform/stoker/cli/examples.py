"""Examples of every verb, at the end of its help; a test has the parser read each of them."""

from __future__ import annotations

EXAMPLES: dict[str, tuple[str, ...]] = {
    "": (
        "stoker up --detach",
        "stoker deploy functions/text-embedder",
        "stoker invoke text-embedder --data @body.json",
        "stoker top",
    ),
    "up": (
        "stoker up --detach",
        "stoker up --devices sim:2x16GiB --home /tmp/rehearsal --port 0 --gateway-port 0",
        "stoker up --host 0.0.0.0 --api-key-file keys.txt --gateways 2",
    ),
    "down": ("stoker down", "stoker down --home /tmp/rehearsal --timeout 120"),
    "status": ("stoker status", "stoker status --json"),
    "deploy": (
        "stoker deploy functions/text-embedder",
        "stoker deploy function.yaml --no-wait",
        "stoker deploy functions/text-embedder --canary 5% --canary-length 5m",
        "stoker deploy project.yaml --only text-embedder --only text-classify",
    ),
    "ls": ("stoker ls", "stoker ls --json"),
    "ps": ("stoker ps", "stoker ps --json"),
    "top": ("stoker top", "stoker top --interval 5", "stoker top --json -n 1"),
    "invoke": (
        "stoker invoke hello",
        "stoker invoke hello --data 'Ada' --include",
        "stoker invoke embeddings -d @body.json -H 'Content-Type: application/json'",
        "stoker invoke embeddings --path /v2/models/minilm/ready -X GET",
    ),
    "logs": ("stoker logs hello --follow", "stoker logs hello --since 10m --tail 50 --json"),
    "rm": ("stoker rm hello", "stoker rm hello embeddings"),
    "wake": ("stoker wake embeddings",),
    "sleep": ("stoker sleep embeddings",),
    "doctor": ("stoker doctor", "stoker doctor --json"),
    "ci": ("stoker ci quantize --function text-embedder", "stoker ci replay text-embedder"),
    "ci quantize": (
        "stoker ci quantize --function text-embedder --report quality.html",
        "stoker ci quantize --path functions/text-embedder --no-rollout",
        "stoker ci quantize --function text-embedder --again --json",
    ),
    "ci replay": (
        "stoker ci replay text-embedder",
        "stoker ci replay text-embedder --candidate functions/text-embedder --limit 100",
        "stoker ci replay text-embedder --against 3 --ignore model --report replay.md",
    ),
    "ci traffic": ("stoker ci traffic text-embedder", "stoker ci traffic text-embedder --forget"),
    "rollout": ("stoker rollout status", "stoker rollout abort text-embedder"),
    "rollout status": (
        "stoker rollout status",
        "stoker rollout status text-embedder --wait",
    ),
    "rollout promote": ("stoker rollout promote text-embedder --why 'seen enough'",),
    "rollout abort": ("stoker rollout abort text-embedder --why 'answers look wrong'",),
    "queue": ("stoker queue ls", "stoker queue dead projects/articles"),
    "queue ls": ("stoker queue ls", "stoker queue ls --json"),
    "queue show": (
        "stoker queue show projects/articles",
        "stoker queue show projects/articles --shard 0 --from 100 --limit 5",
    ),
    "queue dead": (
        "stoker queue dead projects/articles",
        "stoker queue dead projects/articles --group classify --limit 100",
    ),
    "queue replay": (
        "stoker queue replay projects/articles 1795210478647-0",
        "stoker queue replay projects/articles --dead",
        "stoker queue replay projects/articles --since 10m --group classify",
        "stoker queue replay projects/articles --record 17 --shard 0",
    ),
    "queue forget": ("stoker queue forget projects/articles classify",),
}
"""By verb; the first is of ``stoker`` itself."""


def of(verb: str) -> str:
    r"""The end of a verb's help, in paragraphs: what else is put on lines of its own is joined.

    >>> of("wake")
    'Examples:\n\n$ stoker wake embeddings'
    """
    return "\n\n".join(["Examples:", *(f"$ {example}" for example in EXAMPLES[verb])])
