"""What end-to-end tests stand on: a raw HTTP client, a strict SSE reader, a census of leaks."""
