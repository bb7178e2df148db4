"""The app: the processes of a running platform, started, watched, ended.

Belongs here: the home folder, the embedded Redis, the supervisor, the entry points of the
controller and gateway processes, and up, down and status for the command line. Does not belong
here: what those processes do, decisions about functions, or a command line of its own.
"""
