"""Allow-lists: the tests of a foreign suite that must pass. A list only grows.

A line is the name of a test, then `fast` if CI runs it with every change; `#` begins a comment.
"""
import os

HERE = os.path.dirname(os.path.abspath(__file__))


def chosen(file, only_fast):
    """The names in a list, or only its fast ones."""
    with open(os.path.join(HERE, file)) as lines:
        entries = [words for line in lines if (words := line.split("#")[0].split())]
    for words in entries:
        assert words[1:] in ([], ["fast"]), f"{file}: {' '.join(words)}"
    return [words[0] for words in entries if not only_fast or words[1:] == ["fast"]]
