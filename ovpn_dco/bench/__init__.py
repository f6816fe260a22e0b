"""Measurements on real traffic: ``python -m ovpn_dco.bench``.

- :mod:`~ovpn_dco.bench.cli`: the commands
- :mod:`~ovpn_dco.bench.scenarios`: what runs, in which order
- :mod:`~ovpn_dco.bench.subjects`: who is measured: ours, openvpn, wireguard-go, the bare link
- :mod:`~ovpn_dco.bench.measure`, :mod:`~ovpn_dco.bench.datagrams`: how one figure is taken
- :mod:`~ovpn_dco.bench.search`: the highest rate within a loss limit
- :mod:`~ovpn_dco.bench.figures`, :mod:`~ovpn_dco.bench.targets`: from samples to statements
- :mod:`~ovpn_dco.bench.report`, :mod:`~ovpn_dco.bench.plot`: table, JSON, Markdown, picture
"""
