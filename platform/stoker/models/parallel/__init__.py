"""Tensor parallelism: one worker's model split over several processes, a device each.

Belongs here: the peer processes of a worker, what is said to them, and the model of which each
holds a part. Rank 0 is the worker itself; it alone tokenizes, samples and stops. The peers do
nothing but follow its calls of the model's ``forward``, so a request that is cancelled is one that
rank 0 makes no further call for.

Does not belong here: which devices a worker gets, and the models' own plans of how they are split,
which are transformers'.
"""
