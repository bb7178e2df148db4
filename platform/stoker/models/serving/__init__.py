"""Serving one model over HTTP without the user's code: what `stoker.models.serve` is made of.

Belongs here: the three languages it speaks (plain JSON, Open Inference Protocol, OpenAI), each from
an event to inputs and from results to a reply, and running the inputs of a batch of events
together. Does not belong here: what a task makes of an input.
"""
