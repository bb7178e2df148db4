"""The nouns: frozen data, pydantic specs and errors that every room shares.

Belongs here: what things *are*. Does not belong here: I/O, clocks, logging, decisions, or any
import beyond the standard library and pydantic.
"""
