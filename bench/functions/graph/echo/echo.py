"""Answers what was asked: what is left is the platform's own cost."""


def handler(_context, event):
    return event.body
