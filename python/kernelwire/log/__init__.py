"""What a kernel publishes, received once, and who reads it: clients and listeners."""
