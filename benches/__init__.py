"""End-to-end benchmarks: a real server, a real websocket, a kernel that only floods."""
