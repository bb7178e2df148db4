"""Answers what was asked, as a coroutine: one worker holds many requests at once."""


async def handler(_context, event):
    return event.body
