"""ZeroMQ sockets on the event loop: streams that receive in batches, and how often they are looked at."""
