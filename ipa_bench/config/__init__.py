"""TOML files to checked models: the model, or the line that is wrong and what was probably meant."""
