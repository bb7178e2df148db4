"""The echo job on BentoML: ``ECHO_WORKERS`` API processes; started by ``bentoml serve``."""

import os

import bentoml


@bentoml.service(
    workers=int(os.environ["ECHO_WORKERS"]),
    logging={"access": {"enabled": False}},
    traffic={"timeout": 30},
)
class Echo:
    """Answers what was asked."""

    @bentoml.api
    async def echo(self, text: str) -> dict[str, str]:
        """The same data; ``async``, so that no thread pool stands between."""
        return {"text": text}
