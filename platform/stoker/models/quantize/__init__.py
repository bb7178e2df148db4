"""Quantizing the linear layers of a torch model, and computing with what came of it.

Belongs here: which layers are replaced (`plan`), how a library makes their numbers (`make`), and
the layers that compute with them (`linears`).

Does not belong here: folders, manifests, and which method a declaration means
(`stoker.models.methods`).

The libraries' own tensor classes are left at the door: what is kept of them are their plain
tensors, which safetensors holds and every worker maps, and which no `state_dict()` can ruin.
"""
