"""An MLRun function object as it is posted: its kind, its names, its parts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, NoReturn

from stoker.nouns.errors import BadRequest, InvalidFunction, NotSupported

Document = dict[str, Any]
LATEST = "latest"
SERVING = "serving"
DEPLOYED_KINDS = frozenset({"remote", "nuclio", SERVING})
"""What is deployed as a function that serves; jobs and the like are run, not deployed."""
CHILD_VARIABLE = "SERVING_CURRENT_FUNCTION"
"""In a child function's environment: which of the graph's functions it is."""


def normalised(name: str) -> str:
    """A function's name as MLRun's client and server write it.

    >>> normalised("My_Model server")
    'my-model-server'
    """
    return re.sub(r"\s+", "-", name).replace("_", "-").lower()


def full_name(project: str, name: str, tag: str = "") -> str:
    """The name under which a function is deployed: Nuclio's.

    >>> full_name("news", "embedder"), full_name("news", "embedder", "v2")
    ('news-embedder', 'news-embedder-v2')
    """
    return f"{project}-{name}" + (f"-{tag}" if tag and tag != LATEST else "")


@dataclass(frozen=True, slots=True)
class FunctionObject:
    """One function object, its names settled.

    Attributes:
        document: the whole object as it was posted, with these names in its metadata.
    """

    document: Document

    @classmethod
    def read(cls, body: Any, project: str, name: str) -> FunctionObject:
        """The object of a request on ``/projects/{project}/…/{name}``.

        Raises:
            InvalidFunction: it is none, or names another function or project.
        """
        metadata = dict(cls.posted_metadata(body))
        own = normalised(str(metadata.get("name") or name))
        if own != normalised(name):
            refuse("metadata.name", f"must be {name!r} as in the URL, was {metadata['name']!r}")
        if (metadata.get("project") or project) != project:
            refuse("metadata.project", f"must be {project!r}, was {metadata['project']!r}")
        metadata |= {"name": own, "project": project}
        return cls(body | {"metadata": metadata, "spec": dict(mapping(body, "spec"))})

    @staticmethod
    def posted_metadata(body: Any) -> Document:
        """The names in a posted object.

        Raises:
            InvalidFunction: it is none.
        """
        if not isinstance(body, dict):
            refuse("function", f"must be a function object, was {type(body).__name__}")
        return mapping(body, "metadata")

    @property
    def kind(self) -> str:
        """Its kind; a nested kind (``nuclio:mlrun``) is of the outer one."""
        return str(self.document.get("kind") or "").partition(":")[0]

    @property
    def is_serving(self) -> bool:
        """Whether it holds a graph that MLRun's runtime runs."""
        return self.kind == SERVING

    @property
    def metadata(self) -> Document:
        """Names, labels, hash."""
        found: Document = self.document["metadata"]
        return found

    @property
    def spec(self) -> Document:
        """What it declares."""
        found: Document = self.document["spec"]
        return found

    @property
    def project(self) -> str:
        """Its project."""
        return str(self.metadata["project"])

    @property
    def name(self) -> str:
        """Its name in the project."""
        return str(self.metadata["name"])

    @property
    def tag(self) -> str:
        """Its tag; empty means ``latest``."""
        return str(self.metadata.get("tag") or "")

    @property
    def full_name(self) -> str:
        """The name under which it is deployed."""
        return full_name(self.project, self.name, self.tag)

    @property
    def uri(self) -> str:
        """How MLRun's runtime names it: ``project/name[:tag]``."""
        return f"{self.project}/{self.name}" + (f":{self.tag}" if self.tag else "")

    @property
    def graph(self) -> Document:
        """The serving graph; empty when it has none."""
        return mapping(self.spec, "graph")

    @property
    def build(self) -> Document:
        """How it is built."""
        return mapping(self.spec, "build")

    @property
    def child(self) -> str:
        """Which function of its parent's graph it is; empty for a function of its own."""
        return str(self.variable(CHILD_VARIABLE) or "")

    def variable(self, name: str) -> Any:
        """The value of a declared variable, or None."""
        for variable in self.listed("env"):
            if variable.get("name") == name:
                return variable.get("value")
        return None

    def listed(self, field: str) -> list[Document]:
        """The mappings in a list of the spec.

        Raises:
            InvalidFunction: it is no list.
        """
        found = self.spec.get(field) or []
        if not isinstance(found, list):
            refuse(f"spec.{field}", f"must be a list, was {type(found).__name__}")
        return [item for item in found if isinstance(item, dict)]

    def must_be_deployable(self) -> None:
        """Refuses what is not deployed as a function that serves.

        Raises:
            NotSupported: it is of a kind that needs a container.
            InvalidFunction: it is of a kind that is run, not deployed.
        """
        if self.kind == "application":
            raise NotSupported(
                "kind 'application' runs a container image, and there are no containers here: "
                "deploy its code as kind 'nuclio' or 'serving'"
            )
        if self.kind not in DEPLOYED_KINDS:
            kinds = ", ".join(sorted(DEPLOYED_KINDS))
            refuse("kind", f"must be one of {kinds} to be deployed, was {self.kind!r}")


def mapping(document: Document, field: str) -> Document:
    """A part that must be a mapping; empty when it is not there.

    Raises:
        InvalidFunction: it is none.
    """
    found = document.get(field)
    if found is None:
        return {}
    if not isinstance(found, dict):
        refuse(field, f"must be a mapping, was {type(found).__name__}")
    return found


def refuse(field: str, message: str) -> NoReturn:
    """Refuses the function for one field.

    Raises:
        InvalidFunction: always.
    """
    where = f"{field}: " if field else ""
    raise InvalidFunction(
        f"invalid function: {where}{message}", fields=[{"field": field, "message": message}]
    )


def must_be_segment(text: str, what: str) -> str:
    """A project's or a function's name out of a URL.

    Raises:
        BadRequest: it is empty, or could lead out of its place.
    """
    if not text.strip() or "/" in text or "\0" in text:
        raise BadRequest(f"{what} must be a name, was {text!r}")
    return text
