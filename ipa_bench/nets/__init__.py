"""The networks behind FVD, FID-VID and LPIPS as plain torch modules: no torchvision, no TorchScript.

A network is built, given its weights with :func:`ipa_bench.nets.checkpoint.load`, and made ready with
:func:`ipa_bench.nets.fold.prepare`. Resizing and clip choice are the caller's: they are part of a metric's definition.
"""
