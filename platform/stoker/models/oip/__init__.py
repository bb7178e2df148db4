"""The Open Inference Protocol, version 2, over HTTP: tensors in JSON and in its binary extension.

Belongs here: paths, documents and bytes of the protocol, read and written with numpy. Does not
belong here: what a tensor means to a task, and HTTP itself.

The protocol: <https://github.com/kserve/open-inference-protocol>; the binary extension is Triton's
``binary_tensor_data``: raw little-endian tensors after the JSON, whose length is in the header
``Inference-Header-Content-Length``.
"""
