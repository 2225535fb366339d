"""Training of the head that sees fingers (`ipa_bench/nets/fingers.py`): edits of well-formed hands, maps, the fit."""
