"""Read by kernels as a configuration file of IPython's; see ``kernelwire.ipykernel``."""

from kernelwire.ipykernel import keep_output

# IPython reads a file once for each directory in which it looks for it.
keep_output()
