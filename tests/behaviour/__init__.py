"""What the program prints, writes and measures on small input, recorded so that two versions of it can be compared.

``python -m tests.behaviour record OUT.json --source TREE`` runs the real command line of a source tree and keeps every
value that it prints or writes; ``python -m tests.behaviour compare A.json B.json`` names every one that differs. The
command line, its configuration files and what lies in its folders are all that is used: modules may move.
"""
