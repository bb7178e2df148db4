"""Whether a changed model may serve: evaluate it, compare it with its reference, say yes or no.

Belongs here: what ``quality.yaml`` declares, evaluation of candidates on labelled sets, the paired
comparison with the reference, the gate's verdict, the report, recorded traffic and its replay.

Must not be here: torch and transformers (a candidate is measured as it will serve: deployed, and
asked over HTTP), Redis, and the decision to promote or roll back a canary (`stoker.decide`).
"""
