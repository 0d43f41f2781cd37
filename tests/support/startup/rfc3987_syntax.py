"""In the place of a package that jsonschema uses where it is there, to check international addresses.

It takes 1.4 s of CPU time to be imported, two thirds of what a server needs to start; the tests start
hundreds, and have no such addresses.
"""

raise ImportError("left out, so that servers start sooner")
