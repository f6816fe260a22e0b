"""OpenVPN's control channel without input and output: bytes and a clock go in, bytes and events
come out.

The layers, from the wire upward; each one imports only what stands above it in this list:

- `wire`: first byte, session id, acknowledgements, message id, payload;
- `statickey`, `replay`, `wrap`: what protects a control packet (nothing, tls-auth, tls-crypt,
  tls-crypt-v2, and the dynamic key of renegotiations), and what refuses one that comes again;
- `ratelimit`, `cookie`: the server before it knows a client, which keeps nothing for an address
  that has not shown that it receives there;
- `reliable`, in order and once; `tls` with `tlscontext` and `certificates`; `keymaterial` and
  `keystate`, the life of one key id;
- `text` and `messages`, the NUL-terminated strings inside; `peerinfo`, `occ`, `ncp`, what both sides
  can do; `push` and `push_update`, the options of a server; `authtoken`, `challenge`.

A packet that is refused raises a `ProtocolError`, whose `reason` is what to count; a refused packet
is never answered. `now` is Unix time in seconds: the replay ids of the wire carry it."""
