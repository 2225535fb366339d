"""``python -m ipa_bench``."""

from ipa_bench.cli import main

if __name__ == "__main__":
    main()
