"""The command line: verbs for people and scripts.

Belongs here: arguments, finding the platform, tables, messages, exit codes. Does not belong here:
anything that the control port can do (verbs call it), and heavy imports at module level: ``stoker
--help`` and every client verb must answer in a blink.
"""
