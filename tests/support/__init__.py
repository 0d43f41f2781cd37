"""What the tests stand on: real servers, a raw client, a scripted kernel."""
