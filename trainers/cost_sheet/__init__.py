"""``ipa-bench cost``: what training and generating take, measured at a shape, before anybody pays for it."""
