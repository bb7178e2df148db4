"""Single texts of ordinary lengths for the embedder, one request each."""

from __future__ import annotations

import json

TEXTS = (
    "My card was charged twice for the same order.",
    "How do I reset my password?",
    "The parcel arrived with a broken corner and a missing cable.",
    "Thanks, that solved it!",
    "Can I change the delivery address after I have paid?",
    "The app closes by itself whenever I open the settings page on my tablet.",
    "I would like a refund for the subscription that renewed yesterday.",
    "Is there a discount for schools and libraries?",
    "Your support colleague was patient and explained every step until it worked.",
    "The invoice shows the wrong company name.",
    "Where can I download the manual?",
    "Since the update the battery lasts only half as long as before.",
    "Please delete my account and all data that belongs to it.",
    "The colour is nothing like the picture on the web page.",
    "Do you ship to Iceland, and how long does it take in winter?",
    "The second pair of shoes is a size too small, although the label says it is the same.",
)


def bodies() -> bytes:
    """One JSON body a line, which the load generator posts in turn."""
    return b"\n".join(json.dumps({"text": text}).encode() for text in TEXTS)
