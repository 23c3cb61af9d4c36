"""`python -m proxy` is the command `range-adapter`."""

from proxy.cli import main

if __name__ == "__main__":
    main()
