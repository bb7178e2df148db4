"""One echo server per peer, each run by the Python of that peer's own environment.

Belongs here: a script per peer that answers a JSON body with the same JSON, set up as the peer's
documentation recommends for throughput on this many cores, without an access log.
Not here: how they are installed, started and measured (`bench.peers`). Nothing of Stoker is
imported, because none of it is installed in those environments.

Each script reads ``ECHO_PORT`` and ``ECHO_WORKERS`` from its environment.
"""
