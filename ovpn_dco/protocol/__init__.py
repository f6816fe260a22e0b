"""OpenVPN's control channel without input and output: bytes and a clock go in, bytes and events
come out.

The layers, from the wire upward; each one imports only what stands above it in this list:

- `wire`: first byte, session id, acknowledgements, message id, payload;
- `statickey`, `replay`, `wrap`: what protects a control packet (nothing, tls-auth, tls-crypt,
  tls-crypt-v2, and the dynamic key of renegotiations), and what refuses one that comes again;
- `ratelimit`, `cookie`: the server before it knows a client, which keeps nothing for an address
  that has not shown that it receives there;
- reliability, in order and at least once, then the TLS byte stream, then NUL-terminated strings
  and the one binary key exchange message.

A packet that is refused raises a `ProtocolError`, whose `reason` is what to count; a refused packet
is never answered. `now` is Unix time in seconds: the replay ids of the wire carry it."""
