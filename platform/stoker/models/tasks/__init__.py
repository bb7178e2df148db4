"""What models do: one file a task, each from inputs to results in the shape of transformers.

Belongs here: reading one input (its own mistake is its own error), running many together, and what
becomes of the model's numbers. Does not belong here: requests and their protocols.

`opening.open_task` makes a task of a module that is loaded; `task.TaskModel` is what it is then.
"""

from __future__ import annotations

from stoker.models.tasks.opening import as_task, open_task
from stoker.models.tasks.task import TaskModel

__all__ = ["TaskModel", "as_task", "open_task"]
