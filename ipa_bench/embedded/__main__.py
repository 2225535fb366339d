"""``python -m ipa_bench.embedded FOLDER``"""

import sys

from ipa_bench.embedded.cases import main

if __name__ == "__main__":
    sys.exit(main())
