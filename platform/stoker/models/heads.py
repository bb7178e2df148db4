"""Which class of transformers holds the model of a task."""

from __future__ import annotations

from stoker.nouns.settings import Task

AUTO_CLASS = {
    Task.FEATURE_EXTRACTION: "AutoModel",
    Task.TEXT_CLASSIFICATION: "AutoModelForSequenceClassification",
    Task.TOKEN_CLASSIFICATION: "AutoModelForTokenClassification",
    Task.FILL_MASK: "AutoModelForMaskedLM",
    Task.TEXT_GENERATION: "AutoModelForCausalLM",
    Task.IMAGE_CLASSIFICATION: "AutoModelForImageClassification",
    Task.AUTOMATIC_SPEECH_RECOGNITION: "AutoModelForSpeechSeq2Seq",
}
"""Names, because transformers is imported only where a model is loaded."""
