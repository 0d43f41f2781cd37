"""``jupyter kernelwire bench``: stock's bridge beside kernelwire's, on the installation it runs in.

The repository's ``benches/`` is built of the same parts, with more contenders and more cases.
Nothing here is imported by a server, except `plugins` by servers that a benchmark starts.
"""
