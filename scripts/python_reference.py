"""Print a long document that every Python has: its language reference, as pydoc keeps it.

Source: the module pydoc_data.topics of the standard library, made from the Python documentation,
Copyright Python Software Foundation, PSF License Version 2. Its text differs a little between
Python versions. About 52,000 characters for --pages 1, and 150,000 for --pages 4.
"""

import argparse
import sys

PAGES = ("compound", "specialnames", "execmodel", "import", "types")


def main() -> None:
    """Write the pages to stdout."""
    parser = argparse.ArgumentParser(description="Part of Python's language reference, as text.")
    parser.add_argument("--pages", type=int, default=1, help=f"how many of {', '.join(PAGES)}")
    pages = parser.parse_args().pages
    from pydoc_data.topics import topics

    sys.stdout.write("\n\n".join(topics[name].strip() for name in PAGES[:pages]) + "\n")


if __name__ == "__main__":
    main()
