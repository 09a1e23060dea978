"""`python -m snnsc`, which is also what torchrun runs."""

from snnsc.cli import main

if __name__ == "__main__":
    main()
