"""A client: which server, the session with it, and the tunnel that comes of it."""
