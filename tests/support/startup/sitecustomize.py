"""What each Python process of the tests does first."""

import own_ports

own_ports.choose_among_own()
