"""Making a model smaller than its original, before it is quantized.

Belongs here: taking layers and weights out of a model (`layers`, `weights`), teaching what is left
(`distill`), and what a checkpoint says of it (`facts`). `step` does it in order, as one part of a
build: a model folder in, a model folder out.

Does not belong here: quantization, which is applied to what comes out, and whether the result is
good enough, which its user's gate says.
"""
