"""Whole-bridge tests: a kernel, a server and a websocket, one body for every implementation."""
