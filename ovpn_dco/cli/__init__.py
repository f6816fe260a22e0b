"""The command line: ``python -m ovpn_dco server|client|quickstart|bench``, or ``ovpn-dco``.

`main` has the commands, each in a module that is loaded when it is called."""
