"""The server that people run, in parts: addresses, logins and what is particular to one client.

- `pool`: addresses and peer ids; `poolfile` keeps them over a restart;
- `hooks`: calls of the user's own functions; `authentication`: who is this, and may it come in;
- `overrides`: files of `client-config-dir` and the `client_connect` hook."""
