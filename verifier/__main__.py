"""`python3 verifier …` and `python3 -m zipapp verifier`: starts the verifier."""

import sys

from sallyport_verify.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
