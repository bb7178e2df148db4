"""Stoker: a serverless GPU function platform on one box.

Importing this package must stay cheap and must not need mlrun or torch.
"""

__version__ = "0.1.0"
